"""Names of topics, what is made, what is said of settings that lose jobs, and how far the group is."""

from __future__ import annotations

import secrets

import pytest

from flowq._errors import Unavailable
from flowq.backends.kafka.consumer import open_consumer
from flowq.backends.kafka.names import group_name, topic_name
from flowq.backends.kafka.producer import BlockingProducer
from flowq.backends.kafka.topics import Topics, of_broker, of_topic
from flowq.backends.kafka.url import parse_kafka_url
from tests.kafka.broker import KafkaBroker, free_ports
from tests.kafka.test_consumer import fetch


def test_a_plain_name_is_readable() -> None:
    assert (topic_name("shop", "mail"), group_name("shop")) == ("flowq.shop.mail", "flowq.shop")


def test_names_that_kafka_would_mix_up_differ() -> None:
    """Kafka takes ``.`` and ``_`` for the same; and its names end at 249 characters."""
    pairs = [("a", "b"), ("a_b", "c"), ("a", "b_c"), ("a.b", "c"), ("a", "b.c"), ("a@b", "c"), ("a-b", "c")]
    pairs += [("a" * 100 + "@" + "n" * 100, "x" * 99 + last) for last in "yz"]
    names = [topic_name(*pair) for pair in pairs]

    assert len({name.replace(".", "_") for name in names}) == len(pairs)
    assert max(len(name) for name in names) == 249


def test_topics_are_made_once_and_an_existing_one_is_not_touched(kafka_broker: KafkaBroker) -> None:
    """Two lanes, one of which is there: the other is made without any retention, and nothing is found wrong with it."""
    app = "e" + secrets.token_hex(4)
    there, missing = topic_name(app, "there"), topic_name(app, "missing")
    kafka_broker.make_topic(there, 2, retention_ms="60000")
    topics = Topics(parse_kafka_url(kafka_broker.url), app, {"there": there, "missing": missing})
    before = topics.findings()

    assert (topics.ensure(), topics.ensure()) == ([missing], [])

    assert any(f"no topic {missing}" in sentence for sentence in before)
    assert [sentence for sentence in topics.findings() if missing in sentence] == []
    assert [sentence.partition(" hours")[0] for sentence in topics.findings() if there in sentence] == [
        f"{there} deletes jobs after 0.0167"
    ]
    assert len(kafka_broker.admin().list_topics(timeout=10).topics[missing].partitions) == 6


async def test_lag_and_trim_follow_what_is_finished(kafka_broker: KafkaBroker, topic: str) -> None:
    """Lag counts what is finished above a stuck record as finished; trimming deletes below it only, and nothing comes again."""
    address = parse_kafka_url(kafka_broker.url)
    topics = Topics(address, topic, {"work": topic, "nowhere": topic + "none"})
    BlockingProducer(address).send([(topic, b"%d" % number) for number in range(100)])
    assert topics.lag() == {"work": 100, "nowhere": None}
    async with open_consumer(address, topic, {"work": topic}) as consumer:
        records = await fetch(consumer, 100)
        stuck = min(
            (one for one in records if one.partition == records[0].partition), key=lambda one: one.offset
        )
        assert consumer.finish([record for record in records if record != stuck]) == []
    elsewhere = sum(record.partition != stuck.partition for record in records)

    assert topics.lag() == {"work": 1, "nowhere": None}
    assert topics.trim() == elsewhere
    assert topics.lag() == {"work": 1, "nowhere": None}
    assert kafka_broker.count(topic) == 100 - elsewhere
    async with open_consumer(address, topic, {"work": topic}) as consumer:
        assert [(one.partition, one.offset) for one in await fetch(consumer, 1)] == [
            (stuck.partition, stuck.offset)
        ]


def test_no_broker_is_said() -> None:
    topics = Topics(parse_kafka_url(f"kafka://127.0.0.1:{free_ports(1)[0]}"), "g", {"work": "t"})

    with pytest.raises(Unavailable, match="did not list its topics"):
        topics.ensure()


SOUND = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "min.insync.replicas": "2",
}


@pytest.mark.parametrize(
    ("change", "copies", "said"),
    [
        ({}, 3, None),
        ({"retention.ms": "3600000"}, 3, "after 1 hours"),
        ({"retention.bytes": "1000"}, 3, "retention.bytes"),
        ({"cleanup.policy": "compact,delete"}, 3, "compacted"),
        ({}, 1, "has one copy"),
        ({"min.insync.replicas": "1"}, 3, "min.insync.replicas=1"),
        ({"min.insync.replicas": "3"}, 3, "set it to 2"),
        ({}, 2, "give it three"),
        ({"unclean.leader.election.enable": "true"}, 3, "unclean"),
    ],
)
def test_a_topic_that_loses_jobs_is_told_of(change: dict[str, str], copies: int, said: str | None) -> None:
    found = of_topic("t", {**SOUND, **change}, copies, 3)

    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_broker_that_forgets_is_told_of() -> None:
    settings = {
        "offsets.retention.minutes": "60",
        "offset.metadata.max.bytes": "100",
        "auto.create.topics.enable": "true",
    }

    assert len(of_broker(settings)) == 3
    assert of_broker({"offsets.retention.minutes": "10080"}) == []


def test_one_broker_and_one_copy_is_a_developers_machine() -> None:
    assert of_topic("t", {**SOUND, "min.insync.replicas": "1"}, 1, 1) == []
