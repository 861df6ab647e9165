"""The broker of the tests is a real one: what is produced can be consumed, by no code of flowq's."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer

from tests.kafka.broker import KafkaBroker


def test_the_broker_carries_records(kafka_broker: KafkaBroker, topic: str) -> None:
    """Ten records in, the same ten out."""
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap, "acks": "all"})
    for number in range(10):
        producer.produce(topic, value=b"%d" % number)
    assert producer.flush(20) == 0
    settings = {
        "bootstrap.servers": kafka_broker.bootstrap,
        "group.id": topic,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([topic])

    found: list[bytes | None] = []
    while len(found) < 10:
        found += [record.value() for record in consumer.consume(10, 20) if not record.error()]
    consumer.close()

    assert sorted(value or b"" for value in found) == [b"%d" % number for number in range(10)]
