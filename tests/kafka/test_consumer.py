"""Consuming on a real broker: bounded buffers, settling out of order, fencing by assignment, what a restart knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import attrs
import pytest

from flowq.backends.kafka.buffer import Belongs, Fetched
from flowq.backends.kafka.client import MOST
from flowq.backends.kafka.consumer import KafkaConsumer, open_consumer
from flowq.backends.kafka.producer import BlockingProducer
from flowq.backends.kafka.url import KafkaAddress, parse_kafka_url
from tests.kafka.broker import KafkaBroker

LANE = "work"


async def until(condition: Callable[[], bool]) -> None:
    """Look until it is so; the test's own timeout ends a wait in vain."""
    while True:
        if condition():
            return
        await anyio.sleep(0.01)


@attrs.define
class Bench:
    """A topic on the broker, and whoever reads it."""

    address: KafkaAddress
    topic: str
    producer: BlockingProducer

    def produce(self, *values: bytes) -> None:
        self.producer.send([(self.topic, value) for value in values])

    @asynccontextmanager
    async def consumer(self, **options: float) -> AsyncIterator[KafkaConsumer]:
        async with open_consumer(self.address, self.topic, {LANE: self.topic}, **options) as consumer:  # type: ignore[arg-type]
            yield consumer


@pytest.fixture
def bench(kafka_broker: KafkaBroker, topic: str) -> Bench:
    address = parse_kafka_url(f"{kafka_broker.url}?session_timeout=2")
    return Bench(address, topic, BlockingProducer(address))


async def fetch(consumer: KafkaConsumer, number: int) -> list[Fetched]:
    """Take that many records, as they come."""
    found: list[Fetched] = []
    while len(found) < number:
        await until(lambda: consumer.waiting()[LANE] > 0)
        found += consumer.take(LANE, number - len(found))
    return found


async def test_records_come_once_and_do_not_come_again(bench: Bench) -> None:
    """What was finished before the end is not seen by the next member; what was not, is."""
    bench.produce(*(b"%d" % number for number in range(100)))
    async with bench.consumer() as consumer:
        records = await fetch(consumer, 100)
        done = [record for record in records if int(record.value) % 3]
        assert consumer.finish(done) == []

    async with bench.consumer() as consumer:
        again = await fetch(consumer, 100 - len(done))
        bench.produce(b"last")
        again += await fetch(consumer, 1)

    assert sorted(record.value for record in records) == sorted(b"%d" % number for number in range(100))
    assert {record.value for record in again} == {record.value for record in records} - {
        record.value for record in done
    } | {b"last"}


async def test_two_stuck_records_hold_nobody_up(bench: Bench) -> None:
    """The two oldest of 400 never end: after a restart those two come again, and none of the 398."""
    bench.produce(*(b"%d" % number for number in range(400)))
    async with bench.consumer() as consumer:
        records = await fetch(consumer, 400)
        heads = {
            min((record for record in records if record.partition == which), key=offset_of)
            for which in (0, 1)
        }
        assert consumer.finish([record for record in records if record not in heads]) == []

    async with bench.consumer() as consumer:
        bench.produce(b"end", b"end", b"end", b"end")
        again = await fetch(consumer, 6)

    assert {(record.partition, record.offset) for record in again if record.value != b"end"} == {
        (record.partition, record.offset) for record in heads
    }


def offset_of(record: Fetched) -> int:
    return record.offset


async def test_a_buffer_is_bounded_and_a_full_lane_is_paused(bench: Bench) -> None:
    """Of 3,000 records about ten wait here; all of them come in the end, each once."""
    bench.produce(*(b"%d" % number for number in range(3000)))
    async with bench.consumer(buffer=10) as consumer:
        await until(lambda: consumer.waiting()[LANE] >= 10)
        await anyio.sleep(0.3)
        assert consumer.waiting()[LANE] <= 10 + 500
        records = await fetch(consumer, 3000)
        assert consumer.finish(records) == []

    assert len({record.value for record in records}) == 3000


async def test_a_full_window_pauses_until_its_oldest_ends(bench: Bench) -> None:
    """With a window of 20 and nothing finished, no partition gives more than that and one step's records; then the rest come."""
    bench.produce(*(b"%d" % number for number in range(4000)))
    async with bench.consumer(window=20) as consumer:
        records = await fetch(consumer, 20)
        await anyio.sleep(0.3)
        records += consumer.take(LANE, 10_000)
        each = Counter(record.partition for record in records)
        assert max(each.values()) <= 20 + MOST
        assert consumer.finish(records) == []
        while len(records) < 4000:
            new = await fetch(consumer, 1)
            assert consumer.finish(new) == []
            records += new

    assert len({record.value for record in records}) == 4000


async def test_what_was_given_back_waits_in_front(bench: Bench) -> None:
    bench.produce(*(b"%d" % number for number in range(50)))
    async with bench.consumer() as consumer:
        await until(lambda: consumer.waiting()[LANE] == 50)
        first = consumer.take(LANE, 5)
        consumer.give_back(first)

        assert consumer.take(LANE, 5) == first
        assert consumer.outstanding() == {LANE: 50}


async def test_partitions_move_to_a_second_member_after_the_drain(bench: Bench) -> None:
    """A member joins: the first is asked to let go, what it finishes meanwhile counts, what it finishes later is refused."""
    bench.produce(*(b"%d" % number for number in range(200)))
    moved: list[Fetched] = []
    async with bench.consumer() as first:
        records = await fetch(first, 200)

        async def drain(belongs: Belongs) -> None:
            leaving = [record for record in records if belongs(record)]
            moved.extend(leaving)
            assert all(first.is_ours(record) for record in leaving)
            await anyio.sleep(0.1)
            assert first.finish(leaving[::2]) == []

        first.on_revoked = drain
        async with bench.consumer() as second:
            await until(lambda: bool(second.assigned()[LANE]) and bool(moved))
            assert not any(first.is_ours(record) for record in moved)
            assert first.finish(moved[1::2]) == moved[1::2]
            unfinished = moved[1::2]
            again = await fetch(second, len(unfinished))
            assert second.finish(again) == []
            first.on_revoked = quick

    assert {record.value for record in again} == {record.value for record in unfinished}


async def test_a_drain_is_bounded(bench: Bench) -> None:
    """A job that does not end holds up the rebalance for the time allowed, no longer."""
    bench.produce(*(b"%d" % number for number in range(40)))
    async with bench.consumer(drain=0.3) as first:
        records = await fetch(first, 40)

        async def never(_: Belongs) -> None:
            await anyio.sleep_forever()

        first.on_revoked = never
        async with bench.consumer() as second:
            await until(lambda: second.assigned()[LANE] == 2)
            assert len(first.finish(records)) == sum(not first.is_ours(record) for record in records) > 0
        first.on_revoked = quick


async def quick(_: Belongs) -> None:
    """Nothing to end."""


async def test_a_lane_whose_topic_comes_later_is_read(kafka_broker: KafkaBroker, bench: Bench) -> None:
    """The topic is made after the consumer began; meanwhile it says what it misses."""
    late = bench.topic + "late"
    async with open_consumer(bench.address, late, {LANE: late}) as consumer:
        await until(lambda: consumer.why_down is not None)
        await anyio.to_thread.run_sync(kafka_broker.make_topic, late)
        await anyio.to_thread.run_sync(bench.producer.send, [(late, b"x")])
        records = await fetch(consumer, 1)
        assert consumer.finish(records) == []
        await until(lambda: consumer.why_down is None)

    assert records[0].value == b"x"


async def test_a_topic_made_anew_is_read_from_its_beginning(kafka_broker: KafkaBroker, bench: Bench) -> None:
    """What was finished of the old topic of that name says nothing of the new one."""
    bench.produce(*(b"old%d" % number for number in range(40)))
    async with bench.consumer() as consumer:
        assert consumer.finish(await fetch(consumer, 40)) == []
    admin = kafka_broker.admin()
    admin.delete_topics([bench.topic])[bench.topic].result(20)
    await until(lambda: bench.topic not in admin.list_topics(timeout=5).topics)
    kafka_broker.make_topic(bench.topic)
    BlockingProducer(bench.address).send([(bench.topic, b"new%d" % number) for number in range(60)])

    async with bench.consumer() as consumer:
        records = await fetch(consumer, 60)

    assert sorted(record.value for record in records) == sorted(b"new%d" % number for number in range(60))


async def test_the_group_protocol_of_kafka_4(bench: Bench) -> None:
    """``group_protocol=consumer``: the same by the other protocol, with a member that joins and one that leaves."""
    bench.address = attrs.evolve(bench.address, group_protocol="consumer")
    bench.produce(*(b"%d" % number for number in range(100)))
    async with bench.consumer() as first:
        records = await fetch(first, 100)
        assert first.finish(records[:50]) == []
        async with bench.consumer() as second:
            await until(lambda: first.assigned()[LANE] == second.assigned()[LANE] == 2)
            moved = [record for record in records[50:] if not first.is_ours(record)]
            again = await fetch(second, len(moved)) if moved else []
            assert second.finish(again) == []
            assert first.finish(record for record in records[50:] if first.is_ours(record)) == []

    assert {record.value for record in again} == {record.value for record in moved}
    async with bench.consumer() as third:
        bench.produce(b"end")
        assert [record.value for record in await fetch(third, 1)] == [b"end"]
