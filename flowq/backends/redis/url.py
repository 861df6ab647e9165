"""Where Redis is: a URL, read once into a frozen ``Address``.

``redis://[[user]:password@]host[:port][/db]``, ``rediss://…`` (TLS, verified), ``unix://[[user]:password@]/path[?db=n]``, each with
``?option=value`` as in redis-py (``OPTIONS``). Read here and not by redis-py's ``parse_url``, which drops a bad database number in
silence, takes options it does not know, and whose errors may quote a piece of the password.
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import ParseResult, parse_qsl, quote, unquote, urlparse

import attrs
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq._errors import BadURL, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNIX_PATH_LIMIT: Final = 107 if sys.platform == "linux" else 103
"""Most bytes in the path of a unix socket (``sun_path`` without its closing zero)."""

CONNECT_TIMEOUT: Final = 5.0
REPLY_TIMEOUT: Final = 10.0

OPTIONS: Final = (
    "db", "username", "password", "socket_connect_timeout", "socket_timeout",
    "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data",
    "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_min_version", "ssl_ciphers",
)  # fmt: skip
"""What may stand after the ``?``. All ``ssl_…`` only with ``rediss://``."""

Verify = Literal["required", "optional", "none"]
_VERIFY_MODES: Final[Mapping[str, ssl.VerifyMode]] = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
_TLS_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@attrs.frozen
class Tls:
    """How a ``rediss://`` server is checked, and how it may check us."""

    verify: Verify = "required"
    check_hostname: bool = True
    ca_certs: str | None = None
    ca_path: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = attrs.field(default=None, repr=False)
    min_version: str | None = None
    ciphers: str | None = None

    def context(self) -> ssl.SSLContext:
        """A fresh context; the files are read each time, so that renewed certificates are seen at the next connection.

        Raises:
            ConfigurationError: a file cannot be read or holds no certificate or key.
        """
        try:
            context = ssl.create_default_context(
                cafile=self.ca_certs, capath=self.ca_path, cadata=self.ca_data
            )
            context.check_hostname = self.check_hostname and self.verify == "required"
            context.verify_mode = _VERIFY_MODES[self.verify]
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile, self.key_password)
            if self.min_version is not None:
                context.minimum_version = _TLS_VERSIONS[self.min_version]
            if self.ciphers is not None:
                context.set_ciphers(self.ciphers)
        except (OSError, ValueError) as error:
            files = ", ".join(
                str(name) for name in (self.ca_certs, self.ca_path, self.certfile, self.keyfile) if name
            )
            raise ConfigurationError(
                f"the ssl_… options of the Redis URL cannot be used ({files or 'no file named'}): {error}"
            ) from error
        return context


@attrs.frozen(repr=False)
class Address:
    """One Redis, and how to log in. ``repr`` and ``str`` show ``redacted()``: the password never leaves it by accident."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    """Unix socket; ``host`` and ``port`` mean nothing then."""
    username: str | None = None
    password: str | None = None
    db: int = 0
    tls: Tls | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    """Seconds for connecting, the TLS handshake and logging in, together."""
    reply_timeout: float = REPLY_TIMEOUT
    """Seconds without a byte, while a reply is awaited, after which the connection counts as dead."""

    def redacted(self) -> str:
        """The URL for logs and messages: without password and options."""
        login = quote(self.username, safe="") if self.username else ""
        if self.password is not None:
            login += ":***"
        at = f"{login}@" if login else ""
        if self.path is not None:
            return f"unix://{at}{quote(self.path)}" + (f"?db={self.db}" if self.db else "")
        scheme = "redis" if self.tls is None else "rediss"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{at}{host}:{self.port}/{self.db}"

    def __repr__(self) -> str:
        return f"Address({self.redacted()})"

    def __str__(self) -> str:
        return self.redacted()

    def sync_client(self, **overrides: Any) -> redis.Redis:
        """A synchronous redis-py client of this address that sends everything once.

        Its automatic retry is off: after a lost reply it would add an entry twice and strand claimed messages. It speaks RESP2
        and returns bytes. Nothing connects before the first command.

        Args:
            overrides: further arguments of ``redis.Redis``, e.g. ``socket_timeout`` in seconds.
        """
        options: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": self.connect_timeout,
            "socket_timeout": self.reply_timeout,
            "decode_responses": False,
            "protocol": 2,
        }
        if self.path is not None:
            options["unix_socket_path"] = self.path
        else:
            options |= {"host": self.host, "port": self.port}
        if self.tls is not None:
            options |= _redis_py_tls(self.tls)
        options |= overrides
        # last, so that no override brings the retries back
        options["retry"] = Retry(NoBackoff(), 0)
        return redis.Redis(**options)


def _redis_py_tls(tls: Tls) -> dict[str, Any]:
    return {
        "ssl": True,
        "ssl_cert_reqs": tls.verify,
        "ssl_check_hostname": tls.check_hostname and tls.verify == "required",
        "ssl_ca_certs": tls.ca_certs,
        "ssl_ca_path": tls.ca_path,
        "ssl_ca_data": tls.ca_data,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
        "ssl_password": tls.key_password,
        "ssl_min_version": None if tls.min_version is None else _TLS_VERSIONS[tls.min_version],
        "ssl_ciphers": tls.ciphers,
    }


def parse_url(url: str) -> Address:
    """Read a Redis URL.

    Raises:
        BadURL: it cannot be understood. The message names the part at fault and never quotes what may be a password.
    """
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in ("redis", "rediss", "unix"):
        shown = f"{scheme}://" if separator and scheme.isalnum() else "none of them"
        raise BadURL(f"a Redis URL begins with redis://, rediss:// or unix://, this one with {shown}")
    try:
        parts = urlparse(url)
    except ValueError:
        raise BadURL("the host of the Redis URL has a [ or ] too many") from None
    if parts.fragment:
        raise BadURL("the Redis URL has a # in it: in a password or path write %23")
    if scheme != "unix" and "@" in parts.path:
        raise BadURL("the Redis URL has a / before its @: in a password write %2F")
    options = _options(parts.query, tls=scheme == "rediss")
    username, password = _login(parts, options)
    tls = _tls(options) if scheme == "rediss" else None
    common: dict[str, Any] = {
        "username": username,
        "password": password,
        "tls": tls,
        "connect_timeout": _seconds(options, "socket_connect_timeout", CONNECT_TIMEOUT),
        "reply_timeout": _seconds(options, "socket_timeout", REPLY_TIMEOUT),
    }
    if scheme == "unix":
        return Address(path=_unix_path(parts), db=_db(options.get("db", "")), **common)
    db = _db(options.get("db", unquote(parts.path).strip("/")))
    return Address(host=parts.hostname or "localhost", port=_port(parts), db=db, **common)


def _options(query: str, *, tls: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            # a password with a bare ? ends up here
            which = f"the option {name!r}" if "@" not in query and name.isidentifier() else "an option"
            raise BadURL(
                f"{which} of the Redis URL is not known; known are {', '.join(OPTIONS)} (a ? in a password is %3F)"
            )
        if name in found:
            raise BadURL(f"the option {name!r} of the Redis URL is given twice")
        if name.startswith("ssl_") and not tls:
            raise BadURL(f"the option {name!r} of the Redis URL asks for TLS: begin the URL with rediss://")
        found[name] = value
    return found


def _login(parts: ParseResult, options: Mapping[str, str]) -> tuple[str | None, str | None]:
    username = options.get("username", unquote(parts.username or "")) or None
    password = options.get("password", None if parts.password is None else unquote(parts.password))
    if username is None:
        return None, password or None
    if password is None:
        raise BadURL(
            "the Redis URL has a user without a password: user:password@host, or only :password@host"
        )
    return username, password


def _port(parts: ParseResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadURL(
            "the port of the Redis URL is no number from 1 to 65535 (in a password write / ? # @ : as %2F %3F %23 %40 %3A)"
        )
    return 6379 if port is None else port


def _db(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise BadURL("the database of the Redis URL is no number: redis://host:port/0")
    return int(text)


def _unix_path(parts: ParseResult) -> str:
    path = unquote(parts.path)
    if parts.hostname or not path.strip("/"):
        raise BadURL("a unix:// URL has an absolute path: unix:///run/redis.sock (three slashes)")
    if len(path.encode()) > UNIX_PATH_LIMIT:
        raise BadURL(
            f"the path of the unix:// URL is over {UNIX_PATH_LIMIT} bytes, the most that a socket can have"
        )
    return path


def _seconds(options: Mapping[str, str], name: str, default: float) -> float:
    if name not in options:
        return default
    try:
        seconds = float(options[name])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadURL(f"the option {name!r} of the Redis URL is no number of seconds over 0")
    return seconds


def _tls(options: Mapping[str, str]) -> Tls:
    verify = options.get("ssl_cert_reqs", "required")
    if verify not in _VERIFY_MODES:
        raise BadURL("the option 'ssl_cert_reqs' of the Redis URL is required, optional or none")
    check = _BOOLEANS.get(options.get("ssl_check_hostname", "true").lower())
    if check is None:
        raise BadURL("the option 'ssl_check_hostname' of the Redis URL is true or false")
    minimum = options.get("ssl_min_version")
    if minimum is not None and minimum not in _TLS_VERSIONS:
        raise BadURL(f"the option 'ssl_min_version' of the Redis URL is one of {', '.join(_TLS_VERSIONS)}")
    return Tls(
        verify=cast("Verify", verify),
        check_hostname=check,
        ca_certs=options.get("ssl_ca_certs"),
        ca_path=options.get("ssl_ca_path"),
        ca_data=options.get("ssl_ca_data"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        key_password=options.get("ssl_password"),
        min_version=minimum,
        ciphers=options.get("ssl_ciphers"),
    )
