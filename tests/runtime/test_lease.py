"""The lease, in virtual time: what ends with it, what outlives it, and how the worker comes back. TTL 10 s, deadline 6.5 s."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import flowq
from flowq._model import LeaseTimes
from flowq.backends.protocol import Standing
from flowq.testing.faults import DropReply, DropRequest, Script
from tests.runtime.conftest import Stage, StageApp, eventually, virtually

pytestmark = virtually
TIMES = LeaseTimes.of(10.0)


class Diary:
    """When bodies began and ended, and why."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, float]] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def body(self, name: str, seconds: float) -> str:
        self.running[name] = self.running.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.running[name])
        self.entries.append((name, "began", anyio.current_time()))
        try:
            await anyio.sleep(seconds)
        except BaseException:
            self.entries.append((name, str(flowq.current_job().cancel_reason), anyio.current_time()))
            raise
        else:
            self.entries.append((name, "ended", anyio.current_time()))
            return f"{name} done"
        finally:
            self.running[name] -= 1

    def of(self, name: str) -> list[str]:
        return [what for who, what, _ in self.entries if who == name]

    def when(self, name: str, what: str) -> float:
        return next(at for who, did, at in self.entries if (who, did) == (name, what))


def build(stage: Stage, diary: Diary, **options: Any) -> StageApp:
    app = stage.app(**options)

    @app.task(limit=1, retries=0, max_crashes=5)
    async def limited(seconds: float) -> str:
        return await diary.body("limited", seconds)

    @app.task(retries=0, max_crashes=5)
    async def free(seconds: float) -> str:
        return await diary.body("free", seconds)

    @app.task(retries=0, max_crashes=5, on_lease_loss="cancel")
    async def free_but_bound(seconds: float) -> str:
        return await diary.body("bound", seconds)

    return app


async def both(app: StageApp, seconds: float) -> tuple[flowq.Job[Any], flowq.Job[Any]]:
    return await app.ref("limited").enqueue(seconds), await app.ref("free").enqueue(seconds)


async def test_long_jobs_outlive_many_leases(stage: Stage) -> None:
    """A body of any length runs once, as long as its worker renews."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app)
    member = worker.id
    async with app:
        jobs = await both(app, 1000)
        assert [await job.result(timeout=2000) for job in jobs] == ["limited done", "free done"]
    assert diary.of("limited") == diary.of("free") == ["began", "ended"]
    assert worker.id == member


async def test_one_failed_renewal_cancels_nothing(stage: Stage) -> None:
    """A false alarm is not a kill: renewals are repeated until the deadline."""
    diary = Diary()
    script = Script(
        {("renew", n): fault for n, fault in ((2, DropReply()), (3, DropRequest()), (4, DropRequest()))}
    )
    app = build(stage, diary, schedule=script)
    worker = await stage.start(app)
    member = worker.id
    async with app:
        job, _ = await both(app, 30)
        assert await job.result(timeout=60) == "limited done"
    assert worker.id == member
    assert diary.of("limited") == ["began", "ended"]


async def test_at_the_deadline_limited_bodies_are_cancelled_and_free_ones_go_on(stage: Stage) -> None:
    """6.5 s after the last renewal that was answered, not before and hardly later; the free body's result counts, once."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app)
    member = worker.id
    async with app:
        limited, free = await both(app, 30)
        bound = await app.ref("free_but_bound").enqueue(30)
        await eventually(lambda: worker.stats().running == 3)
        await anyio.sleep(5)
        cut_at = anyio.current_time()
        app.line.cut(15)
        await anyio.sleep(15.5)
        cancelled_at = diary.when("limited", "lease_lost")
        assert (
            TIMES.ttl - TIMES.margin - TIMES.renew_every
            <= cancelled_at - cut_at
            <= TIMES.ttl - TIMES.margin + 0.1
        )
        assert diary.when("bound", "lease_lost") == pytest.approx(cancelled_at, abs=0.1)
        await eventually(lambda: worker.stats().is_member)
        assert worker.id != member
        assert await free.result(timeout=60) == "free done"
        assert await limited.result(timeout=60) == "limited done"
        assert await bound.result(timeout=60) == "bound done"
    assert diary.of("free") == ["began", "ended"]
    assert diary.of("limited") == ["began", "lease_lost", "began", "ended"]
    assert diary.most == {"limited": 1, "free": 1, "bound": 1}


async def test_what_ended_during_the_outage_is_still_told(stage: Stage) -> None:
    """Bodies that ended while the server was away have been done under the lease: they are settled, not run again."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app)
    async with app:
        jobs = await both(app, 3)
        await eventually(lambda: worker.stats().running == 2)
        app.line.cut(9)
        assert [await job.result(timeout=60) for job in jobs] == ["limited done", "free done"]
    assert worker.stats().leases_lost == 1
    assert diary.of("limited") == diary.of("free") == ["began", "ended"]


async def test_what_lies_ready_is_dropped_with_the_lease_and_runs_later(stage: Stage) -> None:
    """Nothing starts late: deliveries that were granted under a lost lease start nowhere before they are granted anew."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app, concurrency=1)
    async with app:
        first = await app.ref("free").enqueue(0.001)
        await first.result(timeout=5)
        floor = worker._crew.floor
        blocker = await app.ref("free").enqueue(20)
        await eventually(lambda: floor.running == 1)
        app.line.cut(30)
        await anyio.sleep(8)
        assert not floor.ready
        assert not worker.stats().is_member
        assert await blocker.result(timeout=100) == "free done"


async def test_a_server_that_says_lost_ends_the_membership(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """LOST is final for this member id: limited bodies are cancelled at once, the worker joins under a new one."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app)
    member = worker.id
    async with app:
        limited, _ = await both(app, 5)
        await eventually(lambda: worker.stats().running == 2)
        with caplog.at_level(logging.INFO):
            stage.server.leave(Standing(member, 0, "", 0))
            assert await limited.result(timeout=60) == "limited done"
    assert worker.id != member
    assert diary.of("limited") == ["began", "lease_lost", "began", "ended"]
    events = [getattr(r, "event", "") for r in caplog.records]
    assert events.index("lease.lost") < events.index("lease.rejoined")


async def test_a_partitioned_workers_limited_job_never_runs_twice_at_once(stage: Stage) -> None:
    """Its body has left before the server lets somebody else have the job; the job goes on at the other worker."""
    diary = Diary()
    apps = [build(stage, diary) for _ in range(2)]
    workers = [await stage.start(app) for app in apps]
    client = build(stage, diary)
    async with client:
        job = await client.ref("limited").enqueue(20)
        await eventually(lambda: any(worker.stats().running for worker in workers))
        (holder,) = [i for i, worker in enumerate(workers) if worker.stats().running]
        apps[holder].lines[-1].cut(60)
        begin = anyio.current_time()
        assert await job.result(timeout=200) == "limited done"
    assert diary.of("limited") == ["began", "lease_lost", "began", "ended"]
    assert diary.most["limited"] == 1
    restarted = [at for who, what, at in diary.entries if (who, what) == ("limited", "began")][1]
    assert restarted - begin <= TIMES.ttl + 1


async def test_a_killed_workers_jobs_start_elsewhere_within_ttl_and_a_second(stage: Stage) -> None:
    """P5, whatever the job's length; a killed worker's death counts as one crash."""
    diary = Diary()
    apps = [build(stage, diary) for _ in range(2)]
    workers = []
    for app in apps:
        workers.append(await stage.start(app))
        await anyio.sleep(0.6)  # so that neither renewals nor polls fall on the other's expiry by chance
    client = build(stage, diary)
    async with client:
        job = await client.ref("free").enqueue(20)
        await eventually(lambda: any(worker.stats().running for worker in workers))
        (holder,) = [i for i, worker in enumerate(workers) if worker.stats().running]
        expiry = workers[holder]._crew.floor.lease.deadline + TIMES.margin
        stage.kill(apps[holder], workers[holder])
        assert await job.result(timeout=200) == "free done"
    restarted = [at for who, what, at in diary.entries if (who, what) == ("free", "began")][1]
    # the reader's poll alone would be late by up to a second: the scheduler wakes for the earliest expiry
    assert restarted == pytest.approx(expiry, abs=0.1)


async def test_a_body_that_ignores_its_cancel_is_reported_and_not_doubled_here(stage: Stage) -> None:
    """Limited bodies that outlive their lease are said loudly; this very worker starts no second one beside them."""
    diary = Diary()
    app = stage.app()
    reported: list[int] = []

    @app.task(limit=1, retries=0)
    async def stubborn(seconds: float) -> str:
        with anyio.CancelScope(shield=True):
            return await diary.body("stubborn", seconds)

    worker = await stage.start(app, on_lease_overrun=reported.append)
    async with app:
        job = await stubborn.enqueue(60)
        second = await stubborn.enqueue(0.1)
        await eventually(lambda: worker.stats().running == 1)
        app.line.cut(8)
        await anyio.sleep(20)
        assert reported == [1]
        assert diary.of("stubborn") == ["began"]
        assert await second.result(timeout=300) == "stubborn done"
        assert await job.result(timeout=300) == "stubborn done"
    assert diary.most["stubborn"] == 1


async def test_a_body_may_use_the_margin_to_leave(stage: Stage) -> None:
    """The worker joins again, and so hands the job back, only when its body has left: nobody starts a second one beside it."""
    diary = Diary()

    def build_slow_to_leave() -> StageApp:
        app = stage.app()

        @app.task(limit=1, retries=0)
        async def slow_to_leave() -> str:
            try:
                return await diary.body("slow", 20)
            finally:
                diary.running["slow"] += 1
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1.2)
                diary.running["slow"] -= 1

        return app

    apps = [build_slow_to_leave() for _ in range(2)]
    workers = [await stage.start(app, concurrency=1) for app in apps]
    client = build_slow_to_leave()
    async with client:
        job = await client.ref("slow_to_leave").enqueue()
        await eventually(lambda: any(worker.stats().running for worker in workers))
        (holder,) = [i for i, worker in enumerate(workers) if worker.stats().running]
        apps[holder].lines[-1].cut(6.8)
        assert await job.result(timeout=200) == "slow done"
    assert diary.of("slow") == ["began", "lease_lost", "began", "ended"]
    assert diary.most["slow"] == 1


async def test_a_fleet_with_another_ttl_refuses_the_worker(stage: Stage) -> None:
    """The error names both values; it comes out of ``run`` as one plain error."""
    diary = Diary()
    app = build(stage, diary)
    await stage.start(app)
    other = build(stage, diary, lease_ttl=5)
    with pytest.raises(flowq.ConfigurationError, match="lease"):
        await flowq.run(other)
