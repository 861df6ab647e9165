"""What became of a job: read, and waited for."""

from __future__ import annotations

import anyio
import msgspec

from flowq._model import CancelAnswer, JobStatus, Record
from flowq.backends.protocol import Backend
from flowq.testing.conformance.jobs import again, cancelled, dead, done, released, succeeded
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_status_follows_a_job(stage: Stage) -> None:
    """Delayed, ready, running, succeeded."""
    actor = await stage.join()
    status = stage.backend.results.status
    job = await stage.submit_one(delay=stage.ttl / 2)
    assert await status(job) is JobStatus.DELAYED
    await stage.pass_time(0.75 * stage.ttl)
    await stage.backend.timers.promote()
    assert await status(job) is JobStatus.READY
    [grant] = await actor.take()
    assert await status(job) is JobStatus.RUNNING
    await actor.finish(released(grant))
    assert await status(job) is JobStatus.READY
    [grant] = await actor.take()
    await actor.finish(again(grant, delay=0))
    await stage.backend.timers.promote()
    assert await status(job) is JobStatus.READY
    [grant] = await actor.take()
    assert await status(job) is JobStatus.RUNNING
    await actor.finish(succeeded(grant))
    assert await status(job) is JobStatus.SUCCEEDED


@clause
async def check_nothing_is_known_of_a_job_that_never_was(stage: Stage) -> None:
    """Nor of one that ended without a record: both are UNKNOWN, and there is nothing to wait for."""
    actor = await stage.join()
    gone = await stage.submit_one()
    await actor.finish(*map(done, await actor.take()))
    for job in (gone, "a:1-1", "a:d1-1", "nobody:1-1", "no id at all", ""):
        assert await stage.backend.results.status(job) is JobStatus.UNKNOWN, job
        assert await stage.backend.results.wait(job, None) is None, job
        assert await stage.cancel(job) is CancelAnswer.UNKNOWN, job


@clause
async def check_a_record_comes_back_as_it_was_written(stage: Stage) -> None:
    """Value, or kind, type, message and traceback."""
    actor = await stage.join()
    one, two = await stage.submit(count=2)
    first, second = await actor.take()
    failure = Record(status="dead", kind="timeout", type="m.E", message="é", traceback="t")
    ending = dead(second)
    ending.outcome.record = msgspec.json.encode(failure)  # type: ignore[union-attr]  # it is a Dead
    await actor.finish(succeeded(first, {"é": [1, None]}), ending)
    assert msgspec.json.decode((await stage.kept(one)).value) == {"é": [1, None]}
    assert await stage.kept(two) == failure


@clause
async def check_a_waiter_is_told(stage: Stage) -> None:
    """All who wait for a job get its record when it ends, over whatever client they ask."""
    actor = await stage.join()
    other = await stage.harness.another()
    job = await stage.submit_one()
    found: list[Record | None] = []

    async def wait(backend: Backend) -> None:
        found.append(await backend.results.wait(job, None))

    with anyio.fail_after(20 * stage.ttl):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait, stage.backend)
            tg.start_soon(wait, stage.backend)
            tg.start_soon(wait, other)
            await stage.pass_time(stage.ttl / 4)
            assert found == []
            await actor.finish(*(succeeded(grant, 7) for grant in await actor.take()))
    assert [None if f is None else bytes(f.value) for f in found] == [b"7"] * 3


@clause
async def check_a_waiter_is_told_of_every_end(stage: Stage) -> None:
    """Dead, cancelled, and succeeded with nothing kept, which is None."""
    actor = await stage.join()
    ids = await stage.submit(count=4)
    grants = await actor.take(3)
    found: dict[str, Record | None] = {}

    async def wait(job: str) -> None:
        found[job] = await stage.backend.results.wait(job, None)

    with anyio.fail_after(20 * stage.ttl):
        async with anyio.create_task_group() as tg:
            for job in ids:
                tg.start_soon(wait, job)
            await stage.pass_time(stage.ttl / 4)
            await actor.finish(dead(grants[0]), cancelled(grants[1]), done(grants[2]))
            await stage.cancel(ids[3])
    status = [None if (got := found[job]) is None else got.status for job in ids]
    assert status == ["dead", "cancelled", None, "cancelled"]


@clause
async def check_a_waiter_waits_through_retries(stage: Stage) -> None:
    """An attempt that failed is no end."""
    actor = await stage.join()
    job = await stage.submit_one()
    found: list[Record | None] = []

    async def wait() -> None:
        found.append(await stage.backend.results.wait(job, None))

    with anyio.fail_after(20 * stage.ttl):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            [grant] = await actor.take()
            await actor.finish(again(grant, delay=stage.ttl / 4))
            await stage.pass_time(stage.ttl / 2)
            assert found == []
            await stage.backend.timers.promote()
            await actor.finish(*(succeeded(grant) for grant in await actor.take()))
    assert [None if f is None else f.status for f in found] == ["succeeded"]


@clause
async def check_a_wait_ends_with_its_time(stage: Stage) -> None:
    """TimeoutError that names the job, also for a timeout of nought; the job is not touched by it."""
    actor = await stage.join()
    job = await stage.submit_one()
    for timeout in (0, stage.ttl / 4):
        try:
            await stage.backend.results.wait(job, timeout)
        except TimeoutError as exc:
            assert job in str(exc)
            continue
        raise AssertionError(f"a wait of {timeout} s did not end in TimeoutError")
    [grant] = await actor.take()
    await actor.finish(succeeded(grant))


@clause
async def check_a_record_is_kept_for_its_time(stage: Stage) -> None:
    """Then nothing is known of the job any more."""
    actor = await stage.join()
    job = await stage.submit_one()
    await actor.finish(*(succeeded(grant, ttl_ms=round(500 * stage.ttl)) for grant in await actor.take()))
    assert await stage.backend.results.status(job) is JobStatus.SUCCEEDED
    await stage.pass_time(0.75 * stage.ttl)
    assert await stage.backend.results.status(job) is JobStatus.UNKNOWN


@clause
async def check_a_client_is_up_and_of_one_generation(stage: Stage) -> None:
    """Without trouble, ``wait_up`` returns, and the generation stays as it is."""
    before = stage.backend.generation
    with anyio.fail_after(20 * stage.ttl):
        await stage.backend.wait_up()
    await stage.join()
    await stage.submit()
    assert stage.backend.generation == before
    assert stage.backend.capabilities.name
