"""Three ways to end: drained, cancelled, failed. And who is told what."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

import anyio
import pytest

import flowq
from flowq import JobStatus
from flowq._errors import FlowqError
from flowq._model import HANDED_BACK, Status
from flowq._runtime.worker import open_worker, run
from flowq.backends.protocol import Standing
from tests.runtime.conftest import Stage, eventually


async def test_a_drain_lets_running_bodies_finish_and_hands_back_the_rest(stage: Stage) -> None:
    """What runs gets its grace; what has not started goes to another worker, uncounted."""
    app = stage.app()

    @app.task
    async def long(number: int) -> int:
        await anyio.sleep(0.1)
        return number

    worker = await stage.start(app, concurrency=2)
    async with app:
        jobs = await app.enqueue_many([long.bind(i) for i in range(6)])
        await eventually(lambda: worker.stats().running == 2)
        await worker.drain()
        statuses = [await job.status() for job in jobs]
        assert statuses == [JobStatus.SUCCEEDED] * 2 + [JobStatus.READY] * 4
        assert stage.server.renew(Standing(worker.id, 0, "", 0), 0).status is Status.LOST  # it has left
        await stage.start(app)
        assert [await job.result(timeout=5) for job in jobs] == list(range(6))
    assert stage.server.dead_letters == []


async def test_after_its_grace_a_body_is_cancelled_and_handed_back_uncounted(stage: Stage) -> None:
    """Reason ``shutdown``: neither an attempt nor a crash, whatever the body raises while it leaves."""
    app = stage.app()
    seen: list[tuple[int, str | None]] = []
    started = anyio.Event()

    @app.task(retries=0, max_crashes=1)
    async def long() -> str:
        started.set()
        try:
            await anyio.sleep(0.3)
        except BaseException as exc:
            seen.append((flowq.current_job().attempt, flowq.current_job().cancel_reason))
            raise OSError("the connection was cut") from exc
        return "done"

    worker = await stage.start(app)
    async with app:
        job = await long.enqueue()
        await started.wait()
        await worker.drain(grace=0.02)
        assert worker.stats().cut_off == 1
        assert await job.status() is JobStatus.READY
        await stage.start(app)
        assert await job.result(timeout=5) == "done"
    assert seen == [(1, "shutdown")]


async def test_a_second_drain_shortens_the_grace(stage: Stage) -> None:
    """As a second signal does: whoever is in a hurry wins."""
    app = stage.app()

    @app.task
    async def long() -> None:
        await anyio.sleep(30)

    worker = await stage.start(app)
    async with app:
        await long.enqueue()
        await eventually(lambda: worker.stats().running == 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.drain)
            await anyio.sleep(0.02)
            with anyio.fail_after(2):
                await worker.drain(grace=0)


async def test_a_cancelled_scope_is_prompt_and_hands_everything_back(stage: Stage) -> None:
    """Cancelling the scope around ``run`` takes no grace: bodies are cancelled and handed back, the membership ends."""
    app = stage.app()
    reasons: list[str | None] = []

    @app.task(retries=0, max_crashes=1)
    async def long() -> None:
        try:
            await anyio.sleep(30)
        finally:
            reasons.append(flowq.current_job().cancel_reason)

    worker = await stage.start(app, concurrency=2)
    async with app:
        jobs = await app.enqueue_many([long.bind() for _ in range(3)])
        await eventually(lambda: worker.stats().running == 2)
        begin = time.monotonic()
        stage.cancel(worker)
        await eventually(lambda: stage.server.snapshot()["long"].pending == {HANDED_BACK: 2})
        assert time.monotonic() - begin < 1
        assert [await job.status() for job in jobs] == [JobStatus.READY] * 3
    assert reasons == ["shutdown", "shutdown"]


async def test_an_idle_worker_that_is_cancelled_is_gone_at_once(stage: Stage) -> None:
    """The blocking wait for the doorbell does not hold it up."""
    app = stage.app()

    @app.task
    async def nothing() -> None: ...

    with anyio.fail_after(1):
        async with anyio.create_task_group() as tasks:
            await tasks.start(run, app)
            await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()


async def test_with_a_dead_server_a_cancelled_worker_is_gone_soon(stage: Stage) -> None:
    """What could not be handed back is adopted after the lease: nobody waits for a server that does not answer."""
    app = stage.app()

    @app.task
    async def long() -> None:
        await anyio.sleep(30)

    worker = await stage.start(app)
    async with app:
        await long.enqueue()
        await eventually(lambda: worker.stats().running == 1)
        app.line.freeze()
        begin = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.drain)
            stage.cancel(worker)
        assert time.monotonic() - begin < 2.5


async def test_a_server_that_is_gone_does_not_turn_the_end_into_a_failure(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Drained or cancelled while the line is cut: the worker ends, says that it could not leave, and raises nothing."""
    app = stage.app()

    @app.task
    async def job() -> None: ...

    async with app:
        for how in ("drain", "cancel"):
            worker = await stage.start(app)
            await eventually(lambda worker=worker: worker.stats().turns > 0)
            app.line.cut()
            with anyio.fail_after(4):
                if how == "cancel":
                    stage.cancel(worker)
                await worker.drain()
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events.count("worker.not_left") == 2


async def test_sync_bodies_are_waited_for(stage: Stage) -> None:
    """A thread cannot be cancelled: the worker ends when it has returned, and what it returned counts."""
    app = stage.app()
    release = threading.Event()
    started = threading.Event()

    @app.task
    def blocking() -> str:
        started.set()
        release.wait(5)
        return "written"

    worker = await stage.start(app)
    async with app:
        job = await blocking.enqueue()
        await eventually(started.is_set)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(worker.drain, grace=0))
            await anyio.sleep(0.05)
            assert worker.stats().running == 1
            release.set()
        assert await job.result(timeout=5) == "written"


async def test_a_keyboard_interrupt_in_a_body_drains_the_worker_and_comes_out(stage: Stage) -> None:
    """Ctrl-C is meant for the process: the job that it struck is released uncounted, the worker drains and raises it."""
    app = stage.app()
    attempts: list[int] = []
    other = anyio.Event()

    @app.task(retries=0, max_crashes=1)
    async def struck() -> str:
        attempts.append(flowq.current_job().attempt)
        if len(attempts) == 1:
            raise KeyboardInterrupt
        return "second time"

    @app.task
    async def bystander() -> str:
        other.set()
        await anyio.sleep(0.05)
        return "finished"

    caught: list[BaseException] = []

    async def embed() -> None:
        try:
            await run(app, concurrency=2)
        except KeyboardInterrupt as exc:  # kept here: on asyncio it would end the loop of the test
            caught.append(exc)

    async with app:
        slow = await bystander.enqueue()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embed)
            await other.wait()
            job = await struck.enqueue()
        assert await slow.result(timeout=5) == "finished"
        assert len(caught) == 1
        await stage.start(app)
        assert await job.result(timeout=5) == "second time"
    assert attempts == [1, 1]


async def test_open_worker_drains_at_a_normal_exit(stage: Stage) -> None:
    """The FastAPI lifespan in one line: what runs when the block ends is finished."""
    app = stage.app()

    @app.task
    async def short() -> int:
        await anyio.sleep(0.05)
        return 1

    async with app:
        async with open_worker(app) as worker:
            job = await short.enqueue()
            await eventually(lambda: worker.stats().running == 1)
        assert await job.result(timeout=1) == 1


async def test_a_users_exception_leaves_open_worker_as_it_is(stage: Stage) -> None:
    """No group around it, its cause untouched, and the worker is cancelled, not drained."""
    app = stage.app()

    @app.task
    async def long() -> None:
        await anyio.sleep(30)

    error, cause = KeyError("mine"), ValueError("why")
    begin = time.monotonic()
    with pytest.raises(KeyError) as caught:  # noqa: PT012 - the block is the user's
        async with open_worker(app) as worker, app:
            await long.enqueue()
            await eventually(lambda: worker.stats().running == 1)
            raise error from cause
    assert caught.value is error
    assert error.__cause__ is cause
    assert time.monotonic() - begin < 3


async def test_a_failing_lifespan_comes_out_as_it_is(stage: Stage) -> None:
    """The user's own error in their lifespan is not wrapped in groups of ours, at start and at end."""

    async def fails_at_start() -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    async def fails_at_end() -> AsyncIterator[None]:
        yield
        raise OSError("no pool")

    for lifespan in (fails_at_start, fails_at_end):
        app = stage.app(lifespan=asynccontextmanager(lifespan))

        @app.task
        async def nothing() -> None: ...

        with pytest.raises(OSError, match="no pool"):
            await run(app, burst=True)


async def test_a_worker_that_fails_raises_one_plain_error(stage: Stage) -> None:
    """A defect of ours, or a refusal by the server, is one FlowqError; the embedder's block is cancelled by it."""
    app = stage.app()

    @app.task
    async def nothing() -> None: ...

    with pytest.raises(FlowqError, match="boom") as caught:  # noqa: PT012 - the block is the embedder's
        async with open_worker(app) as worker:
            worker._shift.fail(FlowqError("boom"))
            await anyio.sleep(5)
    assert type(caught.value) is FlowqError


async def test_an_app_without_tasks_is_refused_at_once(stage: Stage) -> None:
    """The message says how to register one; names that are no tasks are refused, too."""
    app = stage.app()
    with pytest.raises(flowq.ConfigurationError, match="serve nothing"):
        await run(app)

    @app.task
    async def known() -> None: ...

    with pytest.raises(flowq.ConfigurationError, match="no task 'unknown'"):
        await run(app, tasks=["unknown"])
    with pytest.raises(flowq.ConfigurationError, match="concurrency"):
        await run(app, concurrency=0)


async def test_a_server_that_is_not_there_is_unavailable_after_start_timeout(stage: Stage) -> None:
    """``tasks.start(flowq.run, app)`` does not hang: the error names the setting and what to look at."""
    app = stage.app()

    @app.task
    async def nothing() -> None: ...

    async with app:
        original = app.opener

        def cut_opener():  # type: ignore[no-untyped-def]
            @asynccontextmanager
            async def opening():  # type: ignore[no-untyped-def]
                async with original()() as backend:
                    app.line.cut()
                    yield backend

            return opening

        app.opener = cut_opener  # type: ignore[method-assign]
        with pytest.raises(flowq.Unavailable, match="start_timeout"):
            await run(app, start_timeout=0.2)


async def test_only_the_named_tasks_are_served(stage: Stage) -> None:
    """Pools: ``tasks=`` and ``exclude=`` decide what a worker takes; the rest waits for others."""
    app = stage.app()

    @app.task
    async def gpu() -> str:
        return "gpu"

    @app.task
    async def cpu() -> str:
        return "cpu"

    await stage.start(app, exclude=("gpu",))
    async with app:
        left = await gpu.enqueue()
        assert await (await cpu.enqueue()).result(timeout=5) == "cpu"
        assert await left.status() is JobStatus.READY
        await stage.start(app, tasks=("gpu",))
        assert await left.result(timeout=5) == "gpu"


async def test_burst_ends_when_nothing_is_left(stage: Stage) -> None:
    """Ready, running and due jobs are done, what is due later than ``burst_wait`` is left."""
    app = stage.app()
    done: list[str] = []

    @app.task
    async def note(what: str) -> None:
        await anyio.sleep(0.01)
        done.append(what)

    async with app:
        for i in range(5):
            await note.enqueue(str(i))
        await note.options(delay=0.1).enqueue("soon")
        later = await note.options(delay=60).enqueue("later")
        with anyio.fail_after(5):
            await run(app, burst=True, burst_wait=1)
        assert sorted(done) == ["0", "1", "2", "3", "4", "soon"]
        assert await later.status() is JobStatus.DELAYED
        with anyio.fail_after(2):
            await run(app, burst=True)


@pytest.mark.parametrize("how", ["drained", "cancelled", "failed"])
async def test_the_end_is_said_whatever_it_was(
    stage: Stage, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A drain, a cancellation of the scope around it, a failure: one record each, with how and how many."""
    caplog.set_level(logging.INFO, logger="flowq")
    app = stage.app()

    @app.task
    async def job() -> None: ...

    async with app:
        with pytest.raises(ExceptionGroup) if how == "failed" else nullcontext():
            async with anyio.create_task_group() as tasks:
                stage.tasks = tasks
                worker = await stage.start(app)
                await (await job.enqueue()).result(timeout=5)
                if how == "drained":
                    await worker.drain()
                elif how == "cancelled":
                    stage.cancel(worker)
                else:
                    worker._shift.fail(flowq.LeaseLost("for good"))
    [record] = [record for record in caplog.records if getattr(record, "event", "") == "worker.stopped"]
    assert (record.facts["how"], record.facts["succeeded"]) == (how, 1)
    assert record.facts["member"] == worker.id
