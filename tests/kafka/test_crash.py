"""Members and brokers that die, on a real broker: nothing is lost, and what was finished and committed does not run again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest

from flowq._errors import OutcomeUnknown
from flowq.backends.kafka.consumer import KafkaConsumer, open_consumer
from flowq.backends.kafka.producer import BlockingProducer, KafkaProducer, open_producer
from flowq.backends.kafka.topics import Topics
from flowq.backends.kafka.url import parse_kafka_url
from tests.kafka.broker import KafkaBroker
from tests.kafka.test_consumer import LANE, fetch, until

pytestmark = pytest.mark.crash


@attrs.define
class Member:
    """A process of tests/kafka/member.py, and what it says that it did."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self, what: str) -> list[str]:
        """The rest of each line that begins with that word."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.removeprefix(what + " ") for line in lines if line.startswith(what + " ")]

    def end(self) -> None:
        """Ask it to leave."""
        self.process.send_signal(signal.SIGTERM)


@attrs.define
class Scene:
    """A topic, its group, and whoever is a member of it."""

    broker: KafkaBroker
    topic: str
    folder: Path
    backend: str
    members: list[Member] = attrs.Factory(list)

    @property
    def url(self) -> str:
        return f"{self.broker.url}?session_timeout=1.5"

    def produce(self, *values: str) -> None:
        BlockingProducer(parse_kafka_url(self.url)).send([(self.topic, value.encode()) for value in values])

    def member(self, unfinished: str = "") -> Member:
        log = self.folder / f"member{len(self.members)}.log"
        command = [sys.executable, "-m", "tests.kafka.member", self.url, self.topic, self.topic, str(log)]
        member = Member(subprocess.Popen([*command, self.backend, unfinished]), log)
        self.members.append(member)
        return member

    def lag(self) -> int | None:
        return Topics(parse_kafka_url(self.url), self.topic, {LANE: self.topic}).lag()[LANE]

    async def until_lag(self, number: int) -> None:
        """Until so many records are not finished, as the broker has it."""
        while True:
            if await anyio.to_thread.run_sync(self.lag) == number:
                return
            await anyio.sleep(0.1)


@pytest.fixture
def scene(kafka_broker: KafkaBroker, topic: str, tmp_path: Path, anyio_backend: str) -> Iterator[Scene]:
    scene = Scene(kafka_broker, topic, tmp_path, anyio_backend)
    yield scene
    for member in scene.members:
        member.process.kill()
        member.process.wait(10)


async def test_the_partitions_of_a_killed_member_come_to_the_other(scene: Scene) -> None:
    """One of two members is killed with records in hand: exactly those that it had not finished come to the other."""
    killed = scene.member(unfinished="h")
    await until(lambda: killed.process.poll() is None)
    scene.produce(*(f"{'h' if number % 4 == 0 else 'f'}{number}" for number in range(200)))
    await until(lambda: len(killed.said("ran")) == 150 and len(killed.said("held")) == 50)
    await scene.until_lag(50)
    killed.process.send_signal(signal.SIGKILL)
    other = scene.member()

    await scene.until_lag(0)

    assert sorted(other.said("ran")) == sorted(killed.said("held"))


async def test_both_live_members_share_and_one_takes_all(scene: Scene) -> None:
    """Two members read; one is killed while records flow: every record ran, and none that was finished before the kill came again."""
    one, other = scene.member(), scene.member()
    scene.produce(*(f"a{number}" for number in range(100)))
    await scene.until_lag(0)
    for batch in range(5):
        scene.produce(*(f"b{batch}-{number}" for number in range(40)))
        await anyio.sleep(0.05)
    one.process.send_signal(signal.SIGKILL)
    scene.produce(*(f"c{number}" for number in range(100)))
    await scene.until_lag(0)

    runs = Counter(one.said("ran") + other.said("ran"))
    assert len(runs) == 400
    assert {value for value, times in runs.items() if times > 1} <= {
        value for value in one.said("ran") if value[0] == "b"
    }


async def test_two_stuck_records_at_the_head_of_400_and_a_sigkill(scene: Scene) -> None:
    """None of the 398 finished ones runs again; the two do."""
    scene.produce("s0", *(f"f{number}" for number in range(199)))
    scene.produce("s1", *(f"f{number}" for number in range(199, 398)))
    killed = scene.member(unfinished="s")
    await until(lambda: len(killed.said("ran")) == 398)
    await scene.until_lag(2)
    killed.process.send_signal(signal.SIGKILL)
    again = scene.member()

    await scene.until_lag(0)

    assert sorted(again.said("ran")) == ["s0", "s1"]


async def test_a_member_that_slept_too_long_is_refused(scene: Scene) -> None:
    """SIGSTOP for longer than its session: the records that it holds are lost to it, and what it then finishes is refused."""
    asleep = scene.member(unfinished="h")
    scene.produce(*(f"h{number}" for number in range(40)))
    await until(lambda: len(asleep.said("held")) == 40)
    asleep.process.send_signal(signal.SIGSTOP)
    async with open_consumer(parse_kafka_url(scene.url), scene.topic, {LANE: scene.topic}) as consumer:
        records = await fetch(consumer, 40)
        assert consumer.finish(records) == []
        await scene.until_lag(0)
        asleep.process.send_signal(signal.SIGCONT)
        await until(lambda: bool(asleep.said("lost")))

    assert asleep.said("lost")[0] == "40 refused 40"


async def test_a_member_that_leaves_repeats_nothing(scene: Scene) -> None:
    """It is asked to end: what it finished is committed, and the other runs the rest at once."""
    leaves = scene.member(unfinished="h")
    scene.produce(*(f"{'h' if number % 2 else 'f'}{number}" for number in range(100)))
    await until(lambda: len(leaves.said("ran")) == 50 and len(leaves.said("held")) == 50)
    leaves.end()
    await until(lambda: leaves.process.poll() is not None)
    other = scene.member()

    await scene.until_lag(0)

    assert leaves.process.returncode == 0
    assert sorted(other.said("ran")) == sorted(leaves.said("held"))


async def test_a_broker_that_dies_under_load_loses_nothing(new_broker: Callable[..., KafkaBroker]) -> None:
    """SIGKILL and restart while ten tasks send and two members run: each record whose send returned runs, and once but for those
    finished since the last commit.
    """
    broker = await anyio.to_thread.run_sync(new_broker)
    topic = await anyio.to_thread.run_sync(broker.make_topic)
    address = parse_kafka_url(f"{broker.url}?session_timeout=6")
    confirmed: set[bytes] = set()
    unknown: set[bytes] = set()
    ran: Counter[bytes] = Counter()

    async def sender(producer: KafkaProducer, worker: int) -> None:
        for number in range(60):
            value = b"%d-%d" % (worker, number)
            try:
                await producer.send([(topic, value)])
            except OutcomeUnknown:
                unknown.add(value)
            else:
                confirmed.add(value)
            await anyio.sleep(0.02)

    async def reader(consumer: KafkaConsumer) -> None:
        while True:
            records = consumer.take(LANE, 50)
            ran.update(record.value for record in records)
            consumer.finish(records)
            await anyio.sleep(0.02)

    async with (
        open_producer(address, timeout=40) as producer,
        open_consumer(address, topic, {LANE: topic}) as one,
        open_consumer(address, topic, {LANE: topic}) as other,
        anyio.create_task_group() as readers,
    ):
        readers.start_soon(reader, one)
        readers.start_soon(reader, other)
        async with anyio.create_task_group() as senders:
            for worker in range(10):
                senders.start_soon(sender, producer, worker)
            await until(lambda: len(ran) > 100)
            before = set(ran)
            await anyio.to_thread.run_sync(broker.kill)
            broker.start(wait=False)
            await anyio.to_thread.run_sync(partial(broker.wait_up, 60))
        await until(lambda: confirmed <= set(ran))
        await until(lambda: one.why_down is None and other.why_down is None)
        readers.cancel_scope.cancel()

    assert len(confirmed) + len(unknown) == 600
    assert confirmed <= set(ran) <= confirmed | unknown
    assert len(before) > 100
    # two members' records of one commit interval: 0.25 s of at most 500 a second, twice over for a machine that is busy
    assert sum(times - 1 for times in ran.values()) <= 250
