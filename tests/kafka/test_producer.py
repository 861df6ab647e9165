"""Producing: a call that returned has stored its records, and each error says whether they may be."""

from __future__ import annotations

import threading

import anyio
import pytest

from flowq._errors import PayloadTooLarge, Unavailable
from flowq.backends.kafka.producer import BlockingProducer, open_producer
from flowq.backends.kafka.url import KafkaAddress, parse_kafka_url
from tests.kafka.broker import KafkaBroker, free_ports


@pytest.fixture
def address(kafka_broker: KafkaBroker) -> KafkaAddress:
    return parse_kafka_url(kafka_broker.url)


async def test_what_was_sent_is_stored(kafka_broker: KafkaBroker, address: KafkaAddress, topic: str) -> None:
    """Fifty tasks send at once; when they have returned, every record is there."""
    async with open_producer(address) as producer, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(producer.send, [(topic, b"%d" % number)] * 4)

    assert kafka_broker.count(topic) == 200


def test_plain_threads_send(kafka_broker: KafkaBroker, address: KafkaAddress, topic: str) -> None:
    """Several threads share one producer."""
    producer = BlockingProducer(address)
    threads = [threading.Thread(target=producer.send, args=([(topic, b"x")] * 25,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    producer.close()

    assert kafka_broker.count(topic) == 100


async def test_a_record_that_is_too_large_stops_its_batch(
    kafka_broker: KafkaBroker, address: KafkaAddress, topic: str
) -> None:
    """Nothing of the batch is stored, and the message says how large it was."""
    async with open_producer(address, max_bytes=1000) as producer:
        with pytest.raises(PayloadTooLarge, match="1001 bytes; at most 1000"):
            await producer.send([(topic, b"small"), (topic, b"x" * 1001)])

    assert kafka_broker.count(topic) == 0


async def test_a_broker_that_takes_less_is_believed(
    kafka_broker: KafkaBroker, address: KafkaAddress, topic: str
) -> None:
    """Its own limit is below ours: still PayloadTooLarge, not an outcome that nobody knows."""
    async with open_producer(address, max_bytes=3_000_000) as producer:
        with pytest.raises(PayloadTooLarge, match=r"max\.message\.bytes"):
            await producer.send([(topic, bytes(range(256)) * 6000)])

    assert kafka_broker.count(topic) == 0


async def test_a_missing_topic_is_named(address: KafkaAddress) -> None:
    async with open_producer(address) as producer:
        with pytest.raises(Unavailable, match=r"no topic flowq\.nobody\.here"):
            await producer.send([("flowq.nobody.here", b"x")])


async def test_no_broker_at_all_is_unavailable() -> None:
    """Nothing listens: surely not stored, and said within the timeout."""
    address = parse_kafka_url(f"kafka://127.0.0.1:{free_ports(1)[0]}")

    async with open_producer(address, timeout=0.5) as producer:
        with pytest.raises(Unavailable):
            await producer.send([("t", b"x")])


async def test_a_cancelled_send_leaves_the_producer_in_order(
    kafka_broker: KafkaBroker, address: KafkaAddress, topic: str
) -> None:
    async with open_producer(address) as producer:
        await producer.send([(topic, b"first")])
        with anyio.move_on_after(0):
            await producer.send([(topic, b"second")])
        await producer.send([(topic, b"third")])

    assert kafka_broker.count(topic) in {2, 3}
