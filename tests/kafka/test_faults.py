"""Answers that a broker gives when it moves, is short of copies or has forgotten a member: from librdkafka's mock cluster."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import attrs
import pytest
from confluent_kafka import KafkaError

from flowq._errors import OutcomeUnknown
from flowq.backends.kafka.buffer import Belongs, Fetched
from flowq.backends.kafka.consumer import open_consumer
from flowq.backends.kafka.producer import BlockingProducer, open_producer
from flowq.backends.kafka.url import KafkaAddress, parse_kafka_url
from tests.kafka.mock_cluster import Api, MockCluster, library, running_mock
from tests.kafka.test_consumer import LANE, fetch, until


@attrs.define
class Mock:
    cluster: MockCluster
    topic: str
    address: KafkaAddress

    def produce(self, *values: bytes) -> None:
        BlockingProducer(self.address).send([(self.topic, value) for value in values])


@pytest.fixture
def mock() -> Iterator[Mock]:
    path = library()
    if path is None:
        pytest.skip("the wheel of confluent-kafka keeps librdkafka elsewhere on this platform")
    with running_mock(path) as cluster:
        topic = cluster.make_topic("faults")
        yield Mock(cluster, topic, parse_kafka_url(f"{cluster.url}?session_timeout=6"))


async def test_too_few_copies_for_a_moment_is_waited_for(mock: Mock) -> None:
    """NOT_ENOUGH_REPLICAS three times: the send returns when the broker has the records."""
    mock.cluster.fail(Api.PRODUCE, *[KafkaError.NOT_ENOUGH_REPLICAS] * 3)
    async with open_producer(mock.address) as producer:
        await producer.send([(mock.topic, b"%d" % number) for number in range(10)])

    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        records = await fetch(consumer, 10)
        assert consumer.finish(records) == []

    assert len({record.value for record in records}) == 10


async def test_a_broker_that_is_down_for_a_while_stores_each_record_once(mock: Mock) -> None:
    """Down for two seconds while fifty are sent: each send returns, and there are fifty records."""
    async with open_producer(mock.address, timeout=20) as producer:
        await producer.send([(mock.topic, b"first")])
        mock.cluster.down()
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(producer.send, [(mock.topic, b"%d" % number)])
            await anyio.sleep(2)
            mock.cluster.up()

    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        records = await fetch(consumer, 51)
        await anyio.sleep(0.2)
        assert consumer.waiting() == {LANE: 0}

    assert len({record.value for record in records}) == 51


async def test_a_broker_that_stays_down_leaves_the_outcome_unknown(mock: Mock) -> None:
    """It was there, and then no more: whether it has the record nobody knows, and that is what is said."""
    async with open_producer(mock.address, timeout=1) as producer:
        await producer.send([(mock.topic, b"first")])
        mock.cluster.down()
        with pytest.raises(OutcomeUnknown, match="may be stored"):
            await producer.send([(mock.topic, b"second")])


@pytest.mark.parametrize(
    "error",
    [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.REBALANCE_IN_PROGRESS],
)
async def test_a_commit_that_is_refused_is_made_later(mock: Mock, error: int) -> None:
    """What was finished is committed all the same: the next member sees none of it."""
    mock.produce(*(b"%d" % number for number in range(40)))
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        records = await fetch(consumer, 40)
        mock.cluster.fail(Api.OFFSET_COMMIT, error, error)
        assert consumer.finish(records) == []
        await anyio.sleep(1.5)
        assert all(consumer.is_ours(record) for record in records)

    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        mock.produce(b"end")
        assert [record.value for record in await fetch(consumer, 1)] == [b"end"]


async def test_a_coordinator_that_moves_while_partitions_are_given_out(mock: Mock) -> None:
    """What is committed cannot be read at first: it is asked again, never guessed."""
    mock.produce(*(b"%d" % number for number in range(40)))
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        assert consumer.finish(await fetch(consumer, 40)) == []

    mock.cluster.fail(Api.OFFSET_FETCH, *[KafkaError.NOT_COORDINATOR] * 2)
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        mock.produce(b"end")
        assert [record.value for record in await fetch(consumer, 1)] == [b"end"]


@pytest.mark.parametrize("error", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID])
async def test_a_member_that_was_forgotten_loses_what_it_holds(mock: Mock, error: int) -> None:
    """Its partitions are lost: what runs of them is to be cancelled and cannot be finished; all of it comes again."""
    mock.produce(*(b"%d" % number for number in range(20)))
    lost: list[Fetched] = []
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        records = await fetch(consumer, 20)

        def note(belongs: Belongs) -> None:
            lost.extend(record for record in records if belongs(record))

        consumer.on_lost = note
        mock.cluster.fail(Api.HEARTBEAT, error)
        await until(lambda: len(lost) == 20)
        assert consumer.finish(records) == records
        again = await fetch(consumer, 20)
        assert consumer.finish(again) == []

    assert {record.value for record in again} == {record.value for record in records}


async def test_a_broker_that_comes_back_is_read_on(mock: Mock) -> None:
    """While it is away the consumer says so; afterwards it goes on by itself, and nothing comes twice."""
    mock.produce(b"before")
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        first = await fetch(consumer, 1)
        assert consumer.finish(first) == []
        mock.cluster.down()
        await until(lambda: consumer.why_down is not None)
        mock.cluster.up()
        await until(lambda: consumer.why_down is None)
        mock.produce(b"after")
        assert [record.value for record in await fetch(consumer, 1)] == [b"after"]


async def test_a_consumer_can_be_left_while_the_broker_is_away(mock: Mock) -> None:
    """What is finished cannot be committed then; it comes again, and leaving does not wait for the broker."""
    mock.produce(*(b"%d" % number for number in range(20)))
    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        records = await fetch(consumer, 20)
        mock.cluster.down()
        await until(lambda: consumer.why_down is not None)
        assert consumer.finish(records) == []
    mock.cluster.up()

    async with open_consumer(mock.address, "g", {LANE: mock.topic}) as consumer:
        assert len(await fetch(consumer, 20)) == 20
