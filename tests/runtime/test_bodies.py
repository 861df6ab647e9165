"""What becomes of a job, by how its body ends."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import msgspec
import pytest

import flowq
from flowq import Backoff, JobStatus
from flowq._model import Submission
from tests.runtime.conftest import Stage, eventually

SOON = Backoff(base=0.01, factor=1, jitter=0)


async def test_a_returned_value_is_the_result(stage: Stage) -> None:
    """What an async body returns is what the waiter gets, in the type of the annotation."""
    app = stage.app()

    @app.task
    async def double(number: int) -> set[int]:
        return {number * 2}

    await stage.start(app)
    async with app:
        assert await (await double.enqueue(4)).result(timeout=5) == {8}


async def test_a_sync_body_runs_in_a_thread_and_knows_its_job(stage: Stage) -> None:
    """A plain ``def`` runs outside of the loop's thread; ``current_job()`` is the same there."""
    app = stage.app()

    @app.task
    def where() -> list[object]:
        return [threading.get_ident(), flowq.current_job().id, flowq.current_job().attempt]

    await stage.start(app)
    async with app:
        job = await where.enqueue()
        thread, job_id, attempt = await job.result(timeout=5)
    assert thread != threading.get_ident()
    assert (job_id, attempt) == (job.id, 1)


async def test_a_failing_body_is_tried_again_until_it_succeeds(stage: Stage) -> None:
    """An exception uses up an attempt; the next attempt knows its number, the id stays."""
    app = stage.app()
    seen: list[tuple[str, int]] = []

    @app.task(retries=3, backoff=SOON)
    async def flaky() -> str:
        job = flowq.current_job()
        seen.append((job.id, job.attempt))
        if job.attempt < 3:
            raise OSError("not yet")
        return "done"

    await stage.start(app)
    async with app:
        job = await flaky.enqueue()
        assert await job.result(timeout=5) == "done"

    assert seen == [(job.id, 1), (job.id, 2), (job.id, 3)]


async def test_the_last_failure_is_a_dead_letter_that_names_its_cause(stage: Stage) -> None:
    """After the last attempt the waiter gets type, message and traceback; the dead letter holds the envelope."""
    app = stage.app()

    @app.task(retries=1, backoff=SOON)
    async def bad() -> None:
        raise ValueError("no such image")

    await stage.start(app)
    async with app:
        job = await bad.enqueue()
        with pytest.raises(flowq.JobFailed, match="no such image") as caught:
            await job.result(timeout=5)

    assert (caught.value.kind, caught.value.remote_type) == ("error", "ValueError")
    assert 'raise ValueError("no such image")' in caught.value.__notes__[0]
    (letter,) = stage.server.dead_letters
    assert (letter.job_id, letter.kind, msgspec.json.decode(letter.detail)["attempts"]) == (
        job.id,
        "error",
        2,
    )


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseExceptionGroup("g", [SystemExit(1)])])
async def test_no_exception_of_a_body_reaches_the_worker(stage: Stage, error: BaseException) -> None:
    """Also what is no Exception fails its own job only."""
    app = stage.app()

    @app.task(retries=0)
    async def leave() -> None:
        raise error

    @app.task
    async def stay() -> int:
        return 1

    await stage.start(app)
    async with app:
        with pytest.raises(flowq.JobFailed):
            await (await leave.enqueue()).result(timeout=5)
        assert await (await stay.enqueue()).result(timeout=5) == 1


async def test_retry_and_reject_are_seen_through_groups(stage: Stage) -> None:
    """A body's own nursery hides them in a group: Reject still buries at once, Retry still asks for another run."""
    app = stage.app()
    runs: list[str] = []

    @app.task(retries=5)
    async def rejects() -> None:
        runs.append("rejects")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_raise, flowq.Retry(after=0.001))
            tasks.start_soon(_raise, flowq.Reject("never"))

    @app.task(retries=5)
    async def asks() -> int:
        runs.append("asks")
        if flowq.current_job().attempt == 1:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_raise, flowq.Retry(after=0.001))
        return flowq.current_job().attempt

    await stage.start(app)
    async with app:
        with pytest.raises(flowq.JobFailed, match="never") as caught:
            await (await rejects.enqueue()).result(timeout=5)
        assert await (await asks.enqueue()).result(timeout=5) == 2

    assert caught.value.kind == "rejected"
    assert sorted(runs) == ["asks", "asks", "rejects"]


async def _raise(error: Exception) -> None:
    raise error


async def test_exceptions_that_are_not_worth_a_retry_bury_at_once(stage: Stage) -> None:
    """``no_retry_on`` beats ``retry_on``; what is in neither is not tried again either."""
    app = stage.app()

    @app.task(retries=5, retry_on=OSError, no_retry_on=FileNotFoundError)
    async def read(kind: str) -> None:
        raise {"file": FileNotFoundError, "value": ValueError}[kind]("x")

    await stage.start(app)
    async with app:
        for kind in ("file", "value"):
            with pytest.raises(flowq.JobFailed):
                await (await read.enqueue(kind)).result(timeout=5)

    assert [msgspec.json.decode(letter.detail)["attempts"] for letter in stage.server.dead_letters] == [1, 1]


async def test_a_timeout_cancels_the_body_and_counts_as_an_attempt(stage: Stage) -> None:
    """Each attempt has the whole timeout; after the last one the waiter gets JobTimedOut. The body can see why."""
    app = stage.app()
    reasons: list[str | None] = []

    @app.task(timeout=0.05, retries=1, backoff=SOON)
    async def slow() -> None:
        try:
            await anyio.sleep(30)
        finally:
            reasons.append(flowq.current_job().cancel_reason)

    await stage.start(app)
    async with app:
        with pytest.raises(flowq.JobTimedOut):
            await (await slow.enqueue()).result(timeout=5)

    assert reasons == ["timeout", "timeout"]


async def test_a_job_brings_its_own_timeout_and_retries(stage: Stage) -> None:
    """What the submit says stands in place of what the task says."""
    app = stage.app()

    @app.task(timeout=30, retries=5)
    async def slow() -> None:
        await anyio.sleep(30)

    await stage.start(app)
    async with app:
        job = await slow.options(
            timeout=timedelta(milliseconds=30), retries=0, headers={"tenant": "a"}
        ).enqueue()
        with pytest.raises(flowq.JobTimedOut):
            await job.result(timeout=5)


async def test_a_result_that_json_cannot_hold_is_a_dead_letter(stage: Stage) -> None:
    """The body has run, so it does not run again; the message says what to do."""
    app = stage.app()
    runs = []

    @app.task(retries=5)
    async def odd() -> object:
        runs.append(1)
        return object()

    await stage.start(app)
    async with app:
        with pytest.raises(flowq.JobFailed, match="results=False"):
            await (await odd.enqueue()).result(timeout=5)

    assert len(runs) == 1


async def test_without_results_nothing_is_encoded_or_stored(stage: Stage) -> None:
    """``results=False``: whatever the body returns is dropped, and the job ends all the same."""
    app = stage.app()
    ran = anyio.Event()

    @app.task(results=False)
    async def quiet() -> object:
        ran.set()
        return object()

    worker = await stage.start(app)
    async with app:
        job = await quiet.enqueue()
        await ran.wait()
        await eventually(lambda: worker.stats().succeeded == 1)
        assert await job.status() is JobStatus.UNKNOWN
    assert stage.server.dead_letters == []


async def test_arguments_that_do_not_fit_are_tried_again_then_buried(stage: Stage) -> None:
    """Version skew: not counted as attempts while the window lasts, then a dead letter of kind ``skew``."""
    app, newer = stage.app(), stage.app()

    @app.task(name="resize")
    async def resize(path: str) -> None: ...

    @newer.task(name="resize")
    async def resize_newer(path: str, width: int) -> None: ...

    patient = await stage.start(app, skew_window=900)
    async with newer, app:
        job = await resize_newer.enqueue("a.png", 3)
        await eventually(lambda: patient.stats().retried == 1)
        assert await job.status() is JobStatus.DELAYED
        await patient.drain()
        await stage.start(app, skew_window=0)
        with pytest.raises(flowq.JobFailed) as caught:
            await (await resize_newer.enqueue("a.png", 3)).result(timeout=5)
    assert caught.value.kind == "skew"


async def test_bytes_that_are_no_job_become_a_dead_letter(stage: Stage) -> None:
    """P7: what cannot be decoded does not vanish and does not stop the lane."""
    app = stage.app()

    @app.task
    async def fine() -> int:
        return 1

    await stage.start(app)
    async with app:
        await app.session().backend.stream.submit("a batch", [Submission("fine", b"not json")])
        assert await (await fine.enqueue()).result(timeout=5) == 1
    await eventually(lambda: [letter.kind for letter in stage.server.dead_letters] == ["undecodable"])


async def test_a_job_past_its_expiry_is_not_started(stage: Stage) -> None:
    """``expires``: a dead letter of kind ``expired`` instead of a late start."""
    app = stage.app()
    ran = []

    @app.task
    async def timely() -> None:
        ran.append(1)

    async with app:
        job = await timely.options(expires=0.02).enqueue()
        await anyio.sleep(0.05)
        await stage.start(app)
        with pytest.raises(flowq.JobFailed) as caught:
            await job.result(timeout=5)

    assert (caught.value.kind, ran) == ("expired", [])


async def test_a_cancelled_job_ends_as_cancelled_with_the_reason(stage: Stage) -> None:
    """``cancel()`` of a running job reaches its body, whatever the body raises on its way out."""
    app = stage.app()
    started = anyio.Event()

    @app.task
    async def long() -> None:
        started.set()
        try:
            await anyio.sleep(30)
        finally:
            assert flowq.current_job().cancel_reason == "cancelled"
            raise KeyError("while leaving")

    await stage.start(app)
    async with app:
        job = await long.enqueue()
        await started.wait()
        assert await job.cancel(reason="not needed") is flowq.CancelAnswer.REQUESTED
        with pytest.raises(flowq.JobCancelled) as caught:
            await job.result(timeout=5)
        assert caught.value.reason == "not needed"


async def test_around_job_wraps_every_body_and_sees_its_exception(stage: Stage) -> None:
    """The first registered manager is the outermost; it is given the running job."""
    app = stage.app()
    trace: list[str] = []

    def recorder(name: str):  # type: ignore[no-untyped-def]  # a decorator's product
        @asynccontextmanager
        async def around(job):  # type: ignore[no-untyped-def]
            trace.append(f"{name} in {job.task}")
            try:
                yield
            except ValueError:
                trace.append(f"{name} saw it")
                raise
            trace.append(f"{name} out")

        return around

    app.around_job(recorder("outer"))
    app.around_job(recorder("inner"))

    @app.task(retries=0)
    async def body(fail: bool) -> None:
        trace.append("body")
        if fail:
            raise ValueError("x")

    await stage.start(app)
    async with app:
        await (await body.enqueue(False)).result(timeout=5)
        with pytest.raises(flowq.JobFailed):
            await (await body.enqueue(True)).result(timeout=5)

    assert trace == [
        *("outer in body", "inner in body", "body", "inner out", "outer out"),
        *("outer in body", "inner in body", "body", "inner saw it", "outer saw it"),
    ]


async def test_the_lifespans_state_is_seen_in_bodies_only(stage: Stage) -> None:
    """What the lifespan yields is ``app.state`` in async and sync bodies; it ends after the last body."""
    order: list[str] = []

    @asynccontextmanager
    async def lifespan():  # type: ignore[no-untyped-def]
        yield "the pool"
        order.append("closed")

    app = stage.app(lifespan=lifespan)

    @app.task
    async def read() -> str:
        await anyio.sleep(0.02)
        order.append("read")
        return str(app.state)

    @app.task
    def read_in_thread() -> str:
        return str(app.state)

    worker = await stage.start(app)
    async with app:
        assert await (await read_in_thread.enqueue()).result(timeout=5) == "the pool"
        job = await read.enqueue()
        await eventually(lambda: worker.stats().running == 1)
        await worker.drain()
        assert await job.result(timeout=5) == "the pool"
    assert order == ["read", "closed"]
    with pytest.raises(LookupError):
        app.state  # noqa: B018 - that it raises is the point


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio has no way to raise Cancelled by oneself
async def test_a_cancellation_that_nobody_asked_for_is_the_bodys_own_failure(stage: Stage) -> None:
    """``await`` of a cancelled asyncio task raises CancelledError in the body: it has failed, the worker goes on."""
    app = stage.app()

    @app.task(retries=1, backoff=SOON)
    async def awaits_a_cancelled_task() -> int:
        if flowq.current_job().attempt == 1:
            task = asyncio.ensure_future(asyncio.sleep(30))
            task.cancel()
            await task
        return flowq.current_job().attempt

    await stage.start(app)
    async with app:
        assert await (await awaits_a_cancelled_task.enqueue()).result(timeout=5) == 2


async def test_threads_bound_how_many_sync_bodies_run(stage: Stage) -> None:
    """With ``threads=2`` of ``concurrency=8`` at most two sync bodies run, and async ones are not kept waiting."""
    app = stage.app()
    begun, running, most = 0, 0, 0
    lock, released = threading.Lock(), threading.Event()

    @app.task
    def blocking() -> None:
        nonlocal begun, running, most
        with lock:
            begun += 1
            running += 1
            most = max(most, running)
        released.wait(30)
        with lock:
            running -= 1

    @app.task
    async def quick() -> int:
        return begun

    await stage.start(app, concurrency=8, threads=2)
    async with app:
        jobs = await app.enqueue_many([blocking.bind() for _ in range(8)])
        try:
            await eventually(lambda: running == 2)
            assert await (await quick.enqueue()).result(timeout=5) == 2
        finally:
            released.set()
        for job in jobs:
            await job.result(timeout=5)

    assert (begun, most) == (8, 2)
