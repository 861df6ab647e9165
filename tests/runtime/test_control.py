"""Cancellations from outside, wherever the job is in this worker."""

from __future__ import annotations

import logging
import time

import anyio
import pytest

import flowq
from flowq import CancelAnswer, JobStatus
from flowq._model import Settled, Status, Submission
from flowq._runtime.options import RunOptions
from flowq._runtime.worker import serve
from flowq.testing.faults import DropReply, Script
from tests.runtime.conftest import VIRTUAL, Stage, eventually

virtually = pytest.mark.parametrize("anyio_backend", VIRTUAL)


@virtually
async def test_a_job_that_was_taken_ahead_is_cancelled_before_it_starts(stage: Stage) -> None:
    """It is in this worker's hands, so the canceller is told "requested"; its body never runs."""
    app = stage.app()
    ran: list[int] = []
    seconds = 0.002

    @app.task
    async def job(number: int) -> None:
        ran.append(number)
        await anyio.sleep(seconds)

    async with app:
        worker = await stage.start(app, concurrency=4)
        jobs = await app.enqueue_many([job.bind(i) for i in range(400)])
        await eventually(lambda: worker.stats().succeeded > 100 and worker.stats().waiting > 10, 60)
        seconds = 0.02
        number = int(worker._crew.floor.ready[-1].raw.split(b'"args":[')[1].split(b"]")[0])
        assert await jobs[number].cancel(reason="changed my mind") is CancelAnswer.REQUESTED
        with pytest.raises(flowq.JobCancelled, match="changed my mind"):
            await jobs[number].result(timeout=5)
        await eventually(lambda: worker.stats().unsent + worker.stats().waiting == 0, 60)
    assert number not in ran
    assert worker.stats().cancelled == 1


@virtually
async def test_a_hint_that_cannot_be_looked_up_is_made_good_by_the_next_renewal(stage: Stage) -> None:
    """The fact lies in a key; hints may be lost."""
    app = stage.app()
    started = anyio.Event()

    @app.task
    async def long() -> None:
        started.set()
        await anyio.sleep(100)

    async with app:
        app.schedule = Script({("cancels", n): DropReply() for n in range(1, 5)})
        await stage.start(app)
        job = await long.enqueue()
        await started.wait()
        begin = anyio.current_time()
        await job.cancel()
        with pytest.raises(flowq.JobCancelled):
            await job.result(timeout=20)
        assert anyio.current_time() - begin < 3


@virtually
async def test_a_retry_that_meets_its_cancellation_ends(stage: Stage) -> None:
    """The body fails in the moment in which somebody cancels it: it is not run again."""
    app = stage.app()

    @app.task(retries=5)
    async def fails() -> None:
        await anyio.sleep(1)
        raise ValueError("x")

    async with app:
        worker = await stage.start(app)
        job = await fails.enqueue()
        await eventually(lambda: worker.stats().running == 1)
        await anyio.sleep(0.9)
        await job.cancel()
        with pytest.raises(flowq.JobCancelled):
            await job.result(timeout=20)
        assert await job.status() is JobStatus.CANCELLED


@virtually
async def test_a_settle_that_meets_another_epoch_is_kept(stage: Stage) -> None:
    """EPOCH: the outcome is not lost, it is sent again after confirming."""
    app = stage.app()

    @app.task
    async def job() -> int:
        await anyio.sleep(0.1)
        return 1

    async with app:
        worker = await stage.start(app)
        exchange = worker._crew.exchange
        original, refused = exchange._apply_settled, []

        def once(sent: list[object], settled: Settled) -> None:
            if not refused:
                refused.append(sent)
                settled = Settled(Status.EPOCH)
            original(sent, settled)  # type: ignore[arg-type]

        exchange._apply_settled = once  # type: ignore[assignment]
        assert await (await job.enqueue()).result(timeout=5) == 1
        await eventually(lambda: worker.stats().unsent == 0)
    assert refused
    assert not worker._crew.member.must_confirm


@virtually
async def test_a_worker_that_may_not_come_back_says_so(stage: Stage) -> None:
    """LeaseLost, the one error that ends a worker for its lease: the server refuses to let it join again."""
    app, other = stage.app(), stage.app(lease_ttl=5)
    ended = anyio.Event()
    for each in (app, other):

        @each.task
        async def job() -> None: ...

    async def embed() -> None:
        with pytest.raises(flowq.LeaseLost, match="cannot join again"):
            await serve(app, RunOptions(keeper="task"))
        ended.set()

    stage.tasks.start_soon(embed)
    await anyio.sleep(1)
    app.line.cut(30)
    for _ in range(15):  # it loses its lease, and the fleet is given another one meanwhile
        await anyio.sleep(1)
        stage.server.snapshot()  # the clock of leases moves by the calls that are made
    await stage.start(other)
    with anyio.fail_after(60):
        await ended.wait()


@virtually
async def test_a_format_that_is_newer_waits_for_a_newer_worker(stage: Stage) -> None:
    """A rollback fills no dead letters: what this version cannot read comes again, as often as it takes."""
    app = stage.app()

    @app.task
    async def job() -> None: ...

    async with app:
        worker = await stage.start(app, skew_window=0)
        raw = b'{"v":2,"task":"job","args":[]}'
        (receipt,) = await app.session().backend.stream.submit("a batch", [Submission("job", raw)])
        await anyio.sleep(1000)
        assert worker.stats().retried > 10
        assert await app.job(receipt.job_id).status() in (JobStatus.DELAYED, JobStatus.READY)
    assert stage.server.dead_letters == []


async def test_a_sync_body_that_is_out_of_time_is_said_and_waited_for(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread cannot be cancelled; what it returns late is a success all the same."""
    app = stage.app()

    @app.task(timeout=0.05)
    def slow() -> str:
        time.sleep(0.2)
        return "late"

    async with app:
        await stage.start(app)
        with caplog.at_level(logging.WARNING):
            assert await (await slow.enqueue()).result(timeout=5) == "late"
    assert [r for r in caplog.records if getattr(r, "event", "") == "body.overdue"]


@virtually
async def test_delayed_jobs_survive_a_promotion_that_goes_wrong(stage: Stage) -> None:
    """An unanswered promotion is tried again after a second."""
    app = stage.app(schedule=Script({("promote", 1): DropReply(), ("promote", 2): DropReply()}))

    @app.task
    async def job() -> int:
        return 1

    async with app:
        await stage.start(app)
        begin = anyio.current_time()
        handle = await job.options(delay=5).enqueue()
        assert await handle.result(timeout=60) == 1
        assert anyio.current_time() - begin < 8
