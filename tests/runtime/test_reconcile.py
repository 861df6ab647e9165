"""Lost replies, cut connections, a server that forgot: in the end every job has run, and no more of them at once than allowed."""

from __future__ import annotations

import os
import random
from typing import Any

import anyio
import pytest

import flowq
from flowq import JobStatus
from flowq._model import Claimed, Delivery, Status
from flowq.testing.faults import Dice, DropReply, DropRequest, Fault, Late, Outage, Script
from tests.runtime.conftest import Stage, StageApp, eventually, virtually
from tests.runtime.test_lease import Diary

pytestmark = virtually


def counting_app(stage: Stage, runs: list[int], seconds: float = 0.01, **options: Any) -> StageApp:
    app = stage.app(**options)

    @app.task(limit=3)
    async def count(number: int) -> int:
        runs.append(number)
        await anyio.sleep(seconds)
        return number

    return app


@pytest.mark.parametrize(
    "fault", [DropReply(), DropRequest(), Late(2), Outage(0.5)], ids=lambda f: type(f).__name__
)
@pytest.mark.parametrize("number", [2, 3, 4])
async def test_a_turn_that_goes_wrong_is_made_good(stage: Stage, fault: Fault, number: int) -> None:
    """Whatever the lost turn carried, claim or settle or both: each job has one result, and each body ran once."""
    runs: list[int] = []
    app = counting_app(stage, runs, schedule=None)
    async with app:
        app.schedule = Script({("exchange", number): fault})
        await stage.start(app)
        jobs = [await app.ref("count").enqueue(i) for i in range(6)]
        begin = anyio.current_time()
        assert [await job.result(timeout=60) for job in jobs] == list(range(6))
        assert anyio.current_time() - begin < 3
    assert [call.number for call, _ in app.line.happened] == [number]
    assert sorted(runs) == list(range(6))


async def test_a_cut_connection_costs_no_body(stage: Stage) -> None:
    """Bodies go on during a short outage and are settled after it."""
    runs: list[int] = []
    app = counting_app(stage, runs, seconds=1.0)
    async with app:
        worker = await stage.start(app)
        jobs = [await app.ref("count").enqueue(i) for i in range(3)]
        await eventually(lambda: worker.stats().running == 3)
        app.line.cut(2)
        assert [await job.result(timeout=60) for job in jobs] == [0, 1, 2]
    assert sorted(runs) == [0, 1, 2]
    assert worker.stats().leases_lost == 0


async def test_a_server_that_restarted_confirms_what_runs(stage: Stage) -> None:
    """New epoch: running bodies are confirmed and go on, their outcomes are taken, limited tasks start nothing for one TTL."""
    diary = Diary()
    app = stage.app()

    @app.task(limit=2, retries=0)
    async def limited(seconds: float) -> str:
        return await diary.body("limited", seconds)

    async with app:
        worker = await stage.start(app)
        member = worker.id
        job = await limited.enqueue(4)
        await eventually(lambda: worker.stats().running == 1)
        stage.server.forget()
        await anyio.sleep(2)
        late = await limited.enqueue(0.1)
        assert await job.result(timeout=60) == "limited done"
        assert await late.status() is JobStatus.READY
        assert await late.result(timeout=60) == "limited done"
    assert worker.id == member
    assert diary.of("limited") == ["began", "ended", "began", "ended"]


async def test_after_a_failover_to_a_stale_replica_unconfirmed_bodies_are_cancelled(stage: Stage) -> None:
    """The replica has not heard of the delivery: its body is cancelled inside the quarantine, and the job runs again after it."""
    diary = Diary()
    app = stage.app()

    @app.task(limit=1, retries=0)
    async def limited(seconds: float) -> str:
        return await diary.body("limited", seconds)

    async with app:
        worker = await stage.start(app)
        await worker_is_settled(worker)
        job = await limited.options(delay=1).enqueue(3)
        backup = stage.server.backup()
        await eventually(lambda: worker.stats().running == 1)
        stage.server.restore(backup)
        assert await job.result(timeout=60) == "limited done"
    assert diary.of("limited") == ["began", "lease_lost", "began", "ended"]
    assert diary.most["limited"] == 1


async def worker_is_settled(worker: flowq.Worker) -> None:
    await eventually(lambda: worker.stats().turns > 0)


async def test_a_grant_of_another_epoch_starts_nothing(stage: Stage) -> None:
    """The worker's own check, whatever the server says: it confirms and hands back instead."""
    app = stage.app()

    @app.task
    async def job() -> None: ...

    async with app:
        worker = await stage.start(app)
        await worker_is_settled(worker)
        crew = worker._crew
        grant = Delivery("job", "1-1", 1, "another", 10**18, 0, b'{"v":1,"task":"job"}')
        crew.exchange._apply_claimed(Claimed(Status.OK, "another", [grant]))
        assert not crew.floor.ready
        assert not crew.floor.known
        assert crew.member.must_confirm
        await eventually(lambda: not crew.member.must_confirm)


async def test_an_emptied_server_is_served_again(stage: Stage) -> None:
    """After FLUSHALL nothing that ran can be confirmed; the worker joins anew and goes on with what comes."""
    diary = Diary()
    app = stage.app()

    @app.task(retries=0)
    async def free(seconds: float) -> str:
        return await diary.body("free", seconds)

    async with app:
        worker = await stage.start(app)
        await free.enqueue(30)
        await eventually(lambda: worker.stats().running == 1)
        stage.server.forget(keep_jobs=False)
        await eventually(lambda: worker.stats().running == 0, 30)
        assert await (await free.enqueue(0.1)).result(timeout=60) == "free done"
    assert diary.of("free") == ["began", "lease_lost", "began", "ended"]


SEEDS = range(int(os.environ.get("FLOWQ_SEEDS", "6")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_fleet_on_bad_lines_loses_nothing_and_keeps_the_limit(stage: Stage, seed: int) -> None:
    """Three workers, a fifth of their calls fails: all jobs end, at most three bodies run at once, the server's books are in
    order, and at rest nothing is owned.
    """
    dice = random.Random(seed)
    diary = Diary()
    faults: list[Fault] = [DropReply(), DropRequest(), Late(1), Late(3), Outage(0.3), Outage(4)]
    done: list[int] = []

    def build(schedule: Any) -> StageApp:
        app = stage.app(schedule=schedule)

        @app.task(limit=3, retries=0, max_crashes=None)
        async def work(number: int) -> int:
            await diary.body("work", dice.choice([0.01, 0.3, 3]))
            done.append(number)
            return number

        @app.task(retries=0, max_crashes=None)
        async def free(number: int) -> int:
            await anyio.sleep(dice.choice([0, 0.01, 3]))
            done.append(number)
            return number

        return app

    client = build(None)
    async with client:
        workers = [await stage.start(build(Dice(dice, 0.0, faults)), concurrency=4) for _ in range(3)]
        for app in stage.apps[1:]:
            app.schedule.probability = 0.2
        jobs = [await client.ref(("work", "free")[i % 2]).enqueue(i) for i in range(60)]
        with anyio.fail_after(1000):
            assert [await job.result(timeout=900) for job in jobs] == list(range(60))
        stage.server.check()
        for app in stage.apps[1:]:
            app.schedule.probability = 0.0
        for worker in workers:
            await worker.drain()
        assert [lane.outstanding for lane in stage.server.snapshot().values()] == [0, 0]
    assert sum(len(line.happened) for app in stage.apps for line in app.lines) >= 5
    assert diary.most["work"] <= 3
    assert set(done) == set(range(60))
    assert stage.server.dead_letters == []


async def test_the_end_of_a_quarantine_is_the_servers_word(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot ask at the time does not say that limited tasks start again."""

    def ended() -> bool:
        return any(getattr(record, "event", "") == "quarantine.end" for record in caplog.records)

    app = stage.app()

    @app.task(limit=1)
    async def limited() -> str:
        return "done"

    async with app:
        worker = await stage.start(app)
        await worker_is_settled(worker)
        caplog.clear()
        stage.server.forget()
        job = await limited.enqueue()
        await anyio.sleep(app.lease_ttl - 0.5)
        app.line.cut()
        await anyio.sleep(1.5)
        assert not ended()
        app.line.mend()
        assert await job.result(timeout=60) == "done"
        assert ended()
