"""What a broker's URL may say, and that no message shows a password."""

from __future__ import annotations

import pytest

from flowq._errors import BadURL, ConfigurationError
from flowq.backends.kafka.producer import BlockingProducer
from flowq.backends.kafka.url import parse_kafka_url


def test_hosts_and_their_ports() -> None:
    assert parse_kafka_url("kafka://one,two:9093,[::1]:9094").hosts == ("one:9092", "two:9093", "[::1]:9094")


def test_a_user_is_shown_by_scram_over_tls() -> None:
    """User and password may hold any character, by percent codes."""
    client = parse_kafka_url("kafkas://me:p%40ss%2F@host?ca=/ca.pem").client()

    assert {key: value for key, value in client.items() if key.startswith(("sasl", "ssl", "security"))} == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "me",
        "sasl.password": "p@ss/",
        "ssl.ca.location": "/ca.pem",
    }


def test_options() -> None:
    address = parse_kafka_url(
        "kafka://host/?partitions=12&replication=3&group_protocol=consumer&session_timeout=6.5"
    )

    assert (address.partitions, address.replication, address.group_protocol, address.session_timeout) == (
        12,
        3,
        "consumer",
        6.5,
    )


def test_no_text_shows_the_password() -> None:
    address = parse_kafka_url("kafka://me:hunter2@host")

    assert str(address) == "kafka://me:***@host:9092"
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host", "begins with 'redis'"),
        ("kafka://", "names no host"),
        ("kafka://host:0", "port of 'host'"),
        ("kafka://host:hunter2", "port of 'host'"),
        ("kafka://host,,other", "names no host"),
        ("kafka://me@host", "without a password"),
        ("kafka://me:hunter2@host/topic", "has a path"),
        ("kafka://me:hunter2#@host", "'#'"),
        ("kafka://[::1", "bracket"),
        ("kafka://host?retention=1", "unknown option 'retention'"),
        ("kafka://host?partitions=1&partitions=2", "twice"),
        ("kafka://host?partitions=0", "whole number from 1"),
        ("kafka://host?session_timeout=soon", "number of seconds"),
        ("kafka://host?session_timeout=nan", "number of seconds"),
        ("kafka://host?group_protocol=share", "none of classic, consumer"),
        ("kafka://host?sasl=PLAIN", "needs a user"),
        ("kafka://me:hunter2@host?sasl=GSSAPI", "none of PLAIN"),
        ("kafka://host?ca=/ca.pem", "kafkas://"),
    ],
)
def test_a_bad_url_is_told_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(BadURL, match=said.replace("?", r"\?")) as caught:
        parse_kafka_url(url)

    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_when_the_client_is_made() -> None:
    with pytest.raises(ConfigurationError, match="kafkas://host:9092 cannot be used"):
        BlockingProducer(parse_kafka_url("kafkas://host?ca=/not/there.pem"))
