"""What a Redis URL means, and that its password goes nowhere else."""

from __future__ import annotations

import pickle
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from redis.connection import parse_url as parse_with_redis_py

from flowq import BadURL, ConfigurationError
from flowq.backends.redis.url import Address, Tls, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address()),
        ("redis://h", Address(host="h")),
        ("REDIS://h:1", Address(host="h", port=1)),
        ("redis://h:1/2", Address(host="h", port=1, db=2)),
        ("redis://h/2?db=3", Address(host="h", db=3)),
        ("redis://[::1]:7000/1", Address(host="::1", port=7000, db=1)),
        ("redis://:p%2Fw@h", Address(host="h", password="p/w")),
        ("redis://u%40x:p:w@h", Address(host="h", username="u@x", password="p:w")),
        ("redis://u:@h", Address(host="h", username="u", password="")),
        ("redis://:@h", Address(host="h")),
        ("redis://h?username=u&password=p", Address(host="h", username="u", password="p")),
        ("rediss://h", Address(host="h", tls=Tls())),
        ("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca", Address(host="h", tls=Tls(verify="none", ca_certs="/ca"))),
        ("rediss://h?ssl_check_hostname=False", Address(host="h", tls=Tls(check_hostname=False))),
        ("unix:///run/r.sock", Address(path="/run/r.sock")),
        ("unix://u:p@/run/my%20r.sock?db=4", Address(path="/run/my r.sock", username="u", password="p", db=4)),
        ("redis://h?socket_timeout=1.5&socket_connect_timeout=2", Address(host="h", connect_timeout=2.0, reply_timeout=1.5)),
    ],
)  # fmt: skip
def test_a_url_becomes_an_address(url: str, expected: Address) -> None:
    """Each part of the URL is read, percent-decoded, and what is not said has its default."""
    assert expected == parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p%40@h:1/2",
        "redis://:p@h?db=3",
        "unix://u:p@/run/r.sock?db=4",
        "rediss://h:5?ssl_ca_certs=/ca&ssl_keyfile=/k&ssl_certfile=/c",
        "redis://h?socket_timeout=1.5&socket_connect_timeout=2",
    ],
)
def test_redis_py_reads_the_same(url: str) -> None:
    """Where redis-py's own reader accepts a URL, the synchronous client gets the arguments that it would have had."""
    ours = parse_url(url).sync_client().connection_pool.connection_kwargs

    theirs: dict[str, Any] = cast("Any", parse_with_redis_py)(url)
    for name, value in theirs.items():
        if name != "connection_class":
            assert value == ours[name], name


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "begins with redis://"),
        ("http://h", "http://"),
        ("s3cret", "none of them"),
        ("redis://h:0", "port"),
        ("redis://h:99999", "port"),
        ("redis://h/first", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h/-1", "database"),
        ("redis://[::1", "[ or ]"),
        ("redis://h?decode_responses=1", "'decode_responses'"),
        ("redis://h?db=1&db=2", "twice"),
        ("redis://h?ssl_ca_certs=/x", "rediss://"),
        ("redis://h?socket_timeout=soon", "'socket_timeout'"),
        ("redis://h?socket_timeout=-1", "'socket_timeout'"),
        ("redis://h?socket_timeout=nan", "'socket_timeout'"),
        ("redis://user@h", "without a password"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("rediss://h?ssl_min_version=SSLv3", "ssl_min_version"),
        ("unix://relative/path", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///" + "x" * 120, "bytes"),
    ],
)
def test_a_bad_url_names_the_part_at_fault(url: str, says: str) -> None:
    """The message names what is wrong and what would be right."""
    with pytest.raises(BadURL) as caught:
        parse_url(url)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3/cret@h",
        "redis://user:s3#cret@h",
        "redis://user:s3?cret@h",
        "redis://user:s3?cret=@h",
        "redis://user:s3cret@h:port",
        "redis://user:s3cret@[h",
        "redis://user:s3cret@h/db",
        "unix://user:s3cret@relative/path",
        "redis//user:s3cret@h",
    ],
)
def test_no_error_quotes_the_password(url: str) -> None:
    """Also a password with a character that should have been escaped, which lands in another part of the URL."""
    with pytest.raises(BadURL) as caught:
        parse_url(url)

    text = f"{caught.value}{caught.value.__cause__}"
    assert "s3" not in text
    assert "cret" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:s3cret@h:1/2", "redis://u:***@h:1/2"),
        ("redis://:s3cret@h", "redis://:***@h:6379/0"),
        ("rediss://[::1]?password=s3cret&ssl_password=s3cret", "rediss://:***@[::1]:6379/0"),
        ("unix://u:s3cret@/run/r.sock?db=3", "unix://u:***@/run/r.sock?db=3"),
        ("redis://h", "redis://h:6379/0"),
    ],
)
def test_what_is_shown_has_no_password(url: str, shown: str) -> None:
    """``repr``, ``str`` and format strings show the redacted URL; the options are left out, as they may hold a password too."""
    address = parse_url(url)

    assert shown == address.redacted() == str(address) == f"{address}"
    assert repr(address) == f"Address({shown})"
    assert "s3cret" not in repr(address.tls)


def test_an_address_is_a_value() -> None:
    """Equal URLs give equal, hashable addresses, which cross into other processes."""
    one, other = parse_url("redis://:p@h/1"), parse_url("redis://:p@h:6379/1")

    assert one == other
    assert hash(one) == hash(other)
    assert one == pickle.loads(pickle.dumps(one))


def test_the_synchronous_client_sends_everything_once() -> None:
    """Whatever a caller overrides, redis-py's automatic retry stays off, and replies stay bytes of RESP2."""
    kwargs = (
        parse_url("redis://h").sync_client(socket_timeout=1.0, retry=None).connection_pool.connection_kwargs
    )

    assert kwargs["retry"]._retries == 0
    assert not kwargs["decode_responses"]
    assert kwargs["protocol"] == 2
    assert kwargs["socket_timeout"] == 1.0


def test_tls_verifies_by_default() -> None:
    """``rediss://`` alone checks the certificate and the host name; only an explicit option switches that off."""
    strict = Tls().context()
    lax = Tls(verify="none").context()

    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert lax.verify_mode == ssl.CERT_NONE


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    """A file of the ``ssl_…`` options that cannot be read is a fault of the settings, and named."""
    missing = tmp_path / "ca.pem"

    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        Tls(ca_certs=str(missing)).context()
