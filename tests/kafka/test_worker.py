"""Workers whose jobs come by a real Kafka, judged by what the bodies saw."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]  # they are documented there

import flowq
from flowq.backends.kafka import intake
from flowq.backends.kafka.names import topic_name
from flowq.backends.kafka.producer import BlockingProducer
from flowq.backends.kafka.url import parse_kafka_url
from tests.kafka.broker import KafkaBroker
from tests.worker.conftest import (
    Shop,
    Witness,
    own_server,
    own_shop,
    until,
)

__all__ = ["own_server", "own_shop"]
PATIENCE = 60.0


@pytest.fixture
def broker(kafka_broker: KafkaBroker, own_shop: Shop) -> str:
    """The broker's URL; the app gets a name of its own, for the broker outlives the test."""
    own_shop.name = f"own-{os.urandom(4).hex()}"
    return f"{kafka_broker.url}?session_timeout=6&partitions=4"


async def test_jobs_come_by_kafka_and_results_go_back(own_shop: Shop, broker: str) -> None:
    """Plain jobs, results, a delayed and a keyed one: the same code as without a broker."""
    app = own_shop.app(broker=broker)

    @app.task(results=True)
    async def double(n: int) -> int:
        return 2 * n

    await own_shop.start(app)
    async with app:
        jobs = await app.enqueue_many(double.bind(n) for n in range(50))
        later = await double.options(delay=0.2).enqueue(50)
        keyed = await double.options(key="one").enqueue(51)
        again = await double.options(key="one").enqueue(51)
        with anyio.fail_after(PATIENCE):
            results = [await job.result() for job in [*jobs, later, keyed]]
    assert results == [2 * n for n in range(52)]
    assert all(job.id.startswith("double:k") for job in jobs)
    assert ":k" not in later.id + keyed.id
    assert keyed.id == again.id


async def test_a_limit_holds_over_both_roads(own_shop: Shop, broker: str) -> None:
    """Half of the jobs by Redis, half by Kafka, two workers: the limit is reached and not passed, and each job runs once."""
    witness = Witness()

    def make(**options: Any) -> tuple[flowq.App[Any], Any]:
        app = own_shop.app(**options)

        @app.task(limit=3)
        async def work(n: int) -> None:
            await witness.body(n, 0.05)

        return app, work

    ours, by_kafka = make(broker=broker)
    theirs, _ = make(broker=broker)
    plain, by_redis = make()
    await own_shop.start(ours)
    await own_shop.start(theirs)
    own_shop.end_quarantine()
    async with ours, plain:
        await ours.enqueue_many(by_kafka.bind(n) for n in range(40))
        await plain.enqueue_many(by_redis.bind(n) for n in range(40, 80))
        await until(lambda: len(witness.done()) >= 80, "80 ended", PATIENCE)
    assert witness.done() == list(range(80))
    assert witness.peak == 3


async def test_a_failing_job_and_a_strangers_record_end_in_the_dead_letters(
    own_shop: Shop, broker: str
) -> None:
    """A retry is Redis's; what is no job of ours is kept and told."""
    app = own_shop.app(broker=broker)
    tries = []

    @app.task(retries=1, backoff=flowq.Backoff(base=0.05))
    async def fails(n: int) -> None:
        tries.append(n)
        raise ValueError(n)

    await own_shop.start(app)
    async with app:
        await fails.enqueue(1)
        await until(lambda: len(tries) == 2, "two tries", PATIENCE)
        producer = BlockingProducer(parse_kafka_url(broker))
        await anyio.to_thread.run_sync(
            producer.send, [(topic_name(own_shop.name, "fails"), b"no job of ours")]
        )
        await anyio.to_thread.run_sync(producer.close)
        await until(lambda: len(dead(own_shop)) == 2, "two dead letters", PATIENCE)
    assert {letter["lane"] for letter in dead(own_shop)} == {"fails"}
    assert any(letter["d"] == "no job of ours" for letter in dead(own_shop))


def dead(shop: Shop) -> list[dict[str, str]]:
    """The dead letters, as they lie in Redis."""
    import redis

    with redis.Redis.from_url(shop.url, decode_responses=True) as client:
        return [fields for _, fields in client.xrange(shop.key("dead"))]


async def test_a_sync_producer_goes_by_kafka(own_shop: Shop, broker: str) -> None:
    """Code without an event loop submits by the same road, and waits for a result."""
    app = own_shop.app(broker=broker)

    @app.task(results=True)
    async def double(n: int) -> int:
        return 2 * n

    def submit() -> tuple[str, int]:
        with app.sync() as producer:
            job = producer.enqueue(double.bind(4))
            return job.id, job.result(timeout=PATIENCE)

    await own_shop.start(app)
    job_id, result = await anyio.to_thread.run_sync(submit)
    assert (job_id.partition(":k")[0], result) == ("double", 8)


def kept(admin: AdminClient, topic: str) -> int:
    """How many records the topic has."""
    places = [TopicPartition(topic, number) for number in range(4)]
    ends, starts = (
        sum(future.result(10).offset for future in admin.list_offsets(dict.fromkeys(places, spec)).values())
        for spec in (OffsetSpec.latest(), OffsetSpec.earliest())
    )
    return int(ends - starts)


async def test_finished_records_are_deleted(
    own_shop: Shop, kafka_broker: KafkaBroker, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic has no retention, so the workers see to it that it does not grow for ever."""
    monkeypatch.setattr(intake, "TRIM_EVERY", 0.5)
    app = own_shop.app(broker=broker)
    ran: list[int] = []

    @app.task(results=False)
    async def note(n: int) -> None:
        ran.append(n)

    await own_shop.start(app)
    admin, topic = kafka_broker.admin(), topic_name(own_shop.name, "note")
    async with app:
        await app.enqueue_many(note.bind(n) for n in range(50))
        await until(lambda: len(ran) == 50, "50 ended", PATIENCE)
        await until(lambda: kept(admin, topic) == 0, "all deleted", PATIENCE)
    assert sorted(ran) == list(range(50))


async def test_memory_is_no_place_beside_a_broker() -> None:
    """The message says what is missing and what to write."""
    app = flowq.App("nowhere", "memory://", broker="kafka://localhost")
    with pytest.raises(flowq.ConfigurationError, match="needs a Redis"):
        app.opener()


@pytest.mark.parametrize("what", ["free", "poison"])
async def test_a_killed_workers_jobs_come_back(
    own_shop: Shop, kafka_broker: KafkaBroker, broker: str, tmp_path: Path, what: str
) -> None:
    """SIGKILL amid jobs: all of them end at another worker. One that kills its workers ends in the dead letters."""
    log = tmp_path / "witness"
    log.touch()
    environ = {
        **os.environ,
        "FLOWQ_URL": own_shop.url,
        "FLOWQ_BROKER": broker,
        "FLOWQ_NAMESPACE": own_shop.name,
        "FLOWQ_WITNESS": str(log),
        "FLOWQ_TEST_TTL": "1",
    }
    app = flowq.App("crash", own_shop.url, broker=broker, namespace=own_shop.name, lease_ttl=1.0)
    own_shop.name = f"crash@{own_shop.name}"
    command = [sys.executable, "-m", "flowq", "run", "tests.crash.app:app"]
    async with app, anyio.create_task_group() as tasks:
        jobs = [(what, (n,)) for n in range(40 if what == "free" else 1)]
        for name, args in jobs:
            await app.enqueue(name, *args)
        process = await anyio.open_process(command, env=environ, stdout=None, stderr=None)
        if what == "free":
            await until(lambda: "start" in log.read_text(), "a start", PATIENCE)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            await process.aclose()
            process = await anyio.open_process(command, env=environ, stdout=None, stderr=None)
            await until(lambda: finished(log) == 40, "40 ended", PATIENCE)
        else:
            await until(lambda: bool(dead(own_shop)), "a dead letter", PATIENCE)
        process.terminate()
        with anyio.move_on_after(20):
            await process.wait()
        tasks.cancel_scope.cancel()
    if what == "poison":
        assert [letter["kind"] for letter in dead(own_shop)] == ["crashed"]
        assert log.read_text().count("start") == 3


def finished(log: Path) -> int:
    """How many different jobs have ended."""
    lines = [line for line in log.read_text().splitlines() if "done" in line]
    return len({line[line.index("done") :] for line in lines})
