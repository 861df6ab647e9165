"""Where Kafka is: a URL, read once into a frozen ``KafkaAddress``.

``kafka://[user:password@]host[:9092][,host[:port]…][/?option=value]``; ``kafkas://…`` with TLS, verified. ``OPTIONS`` says what may
stand after the ``?``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from flowq._errors import BadURL

PORT: Final = 9092
SCHEMES: Final = ("kafka", "kafkas")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS: Final = ("classic", "consumer")

OPTIONS: Final[Mapping[str, str]] = {
    "sasl": "how user and password are shown: PLAIN, SCRAM-SHA-256 (the default) or SCRAM-SHA-512",
    "ca": "file of the certificates that may sign the brokers'; the system's if not given",
    "cert": "file of our own certificate",
    "key": "file of its key",
    "partitions": "of a topic that flowq creates (6): no more workers than that read one lane at once",
    "replication": "copies of a topic that flowq creates; the broker's default if not given",
    "group_protocol": "classic (the default) or consumer: the group protocol of Kafka 4",
    "session_timeout": "seconds (10) after which a worker that is silent loses its partitions",
}

GroupProtocol = Literal["classic", "consumer"]


@attrs.frozen
class KafkaAddress:
    """Everything that the URL says. Its text never shows the password."""

    hosts: tuple[str, ...]
    """``host:port`` of each broker to ask first."""
    tls: bool = False
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    sasl: str = "SCRAM-SHA-256"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    partitions: int = 6
    replication: int | None = None
    group_protocol: GroupProtocol = "classic"
    session_timeout: float = 10.0

    def __str__(self) -> str:
        login = f"{self.user}:***@" if self.user is not None else ""
        return f"kafka{'s' if self.tls else ''}://{login}{','.join(self.hosts)}"

    def client(self) -> dict[str, str | int | float | bool]:
        """What every client of librdkafka is opened with."""
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": ",".join(self.hosts),
            "client.id": "flowq",
            # what librdkafka says on stderr comes as an error or a callback, too
            "log_level": 0,
            # a broker that comes back is noticed within a second, not ten
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            # after a topic was created or moved, the first look must not last for five minutes
            "topic.metadata.refresh.interval.ms": 30_000,
        }
        sasl = self.user is not None
        config["security.protocol"] = ("SASL_" if sasl else "") + ("SSL" if self.tls else "PLAINTEXT")
        if self.user is not None:
            config["sasl.mechanism"] = self.sasl
            config["sasl.username"] = self.user
            config["sasl.password"] = self.password or ""
        files = {
            "ssl.ca.location": self.ca,
            "ssl.certificate.location": self.cert,
            "ssl.key.location": self.key,
        }
        config.update({option: file for option, file in files.items() if file is not None})
        return config


def parse_kafka_url(url: str) -> KafkaAddress:
    """Read a URL.

    Raises:
        BadURL: the message names the part at fault, never the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadURL("the broker's URL cannot be read: is a bracket of an IPv6 address missing?") from None
    if parts.scheme not in SCHEMES:
        raise BadURL(
            f"the broker's URL begins with {parts.scheme!r}: write kafka://host:{PORT}, or kafkas://… with TLS"
        )
    if parts.path not in ("", "/"):
        raise BadURL(
            "the broker's URL has a path: a topic belongs to a task and is named by flowq; options follow a '?'"
        )
    if parts.fragment:
        raise BadURL("the broker's URL has a '#': write it as %23 if it is part of the password")
    login, _, places = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if login and not (user and colon):
        raise BadURL(
            "the broker's URL names a user without a password, or a password without a user: both, or none"
        )
    options = _read_options(parts.query, tls=parts.scheme == "kafkas", login=bool(login))
    return KafkaAddress(
        hosts=tuple(_read_host(place) for place in places.split(",")),
        tls=parts.scheme == "kafkas",
        user=unquote(user) if login else None,
        password=unquote(password) if login else None,
        sasl=options.get("sasl", "SCRAM-SHA-256"),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        partitions=_whole(options, "partitions", 6, 10_000),
        replication=_whole(options, "replication", 0, 100) or None,
        group_protocol=cast("GroupProtocol", options.get("group_protocol", "classic")),
        session_timeout=_seconds(options, "session_timeout", 10.0),
    )


def _read_host(place: str) -> str:
    """``host:port`` of ``host``, ``host:port`` or ``[ipv6]:port``."""
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, str(PORT)
    if not host or host == "[]":
        raise BadURL(f"the broker's URL names no host: write kafka://host:{PORT}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise BadURL(f"the port of {host!r} in the broker's URL is no number from 1 to 65535")
    return f"{host}:{port}"


def _read_options(query: str, *, tls: bool, login: bool) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise BadURL(f"the broker's URL has an unknown option {name!r}; known are: {', '.join(OPTIONS)}")
        if name in options:
            raise BadURL(f"the broker's URL has the option {name!r} twice")
        options[name] = value
    for name, known in (("sasl", MECHANISMS), ("group_protocol", PROTOCOLS)):
        if name in options and options[name] not in known:
            raise BadURL(f"{name} in the broker's URL is none of {', '.join(known)}")
    if not tls and (needs := [name for name in ("ca", "cert", "key") if name in options]):
        raise BadURL(f"{needs[0]} in the broker's URL is for TLS: write kafkas://…")
    if not login and "sasl" in options:
        raise BadURL("sasl in the broker's URL needs a user and a password: kafka://user:password@host")
    return options


def _whole(options: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise BadURL(f"{name} in the broker's URL is no whole number from 1 to {most}")
    return int(text)


def _seconds(options: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(options.get(name, default))
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 1800:
        raise BadURL(f"{name} in the broker's URL is no number of seconds from 0.5 to 1800")
    return value
