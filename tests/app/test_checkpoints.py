"""Every public async call is a checkpoint, even when it need not wait: a loop of them neither starves others nor misses a cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio.testing

import flowq
from tests.app.hand_worker import HandWorker

Call = Callable[[flowq.App[None], flowq.Job[Any]], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "Task.enqueue": lambda app, job: app.ref("work").enqueue(),
    "App.enqueue": lambda app, job: app.enqueue("work"),
    "App.enqueue_many": lambda app, job: app.enqueue_many([app.ref("work").bind()] * 2),
    "App.enqueue_many of nothing": lambda app, job: app.enqueue_many([]),
    "App.set_limit": lambda app, job: app.set_limit("work", 1),
    "App.pause": lambda app, job: app.pause("work"),
    "App.resume": lambda app, job: app.resume("work"),
    "App.__aenter__": lambda app, job: app.__aenter__(),
    "App.__aexit__": lambda app, job: app.__aexit__(None, None, None),
    "Job.result": lambda app, job: job.result(timeout=0),
    "Job.status": lambda app, job: job.status(),
    "Job.status of nothing": lambda app, job: app.job("nonsense").status(),
    "Job.cancel": lambda app, job: job.cancel(),
    "Job.cancel of nothing": lambda app, job: app.job("nonsense").cancel(),
}


@asynccontextmanager
async def with_a_finished_job(app: flowq.App[None]) -> AsyncIterator[flowq.Job[Any]]:
    @app.task
    def work() -> None: ...

    await app.__aenter__()
    worker = HandWorker(app)
    await worker.join()
    job = await app.enqueue("work")
    await worker.work()
    yield job


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
@pytest.mark.parametrize("name", CALLS)
async def test_it_is_a_checkpoint(app: flowq.App[None], name: str) -> None:
    """Each time, whatever the answer."""
    async with with_a_finished_job(app) as job:
        with trio.testing.assert_checkpoints():
            await CALLS[name](app, job)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"App.__aexit__"}))
async def test_a_cancelled_caller_gets_no_further(app: flowq.App[None], name: str) -> None:
    """A call in a scope that is cancelled already ends by that, on both event loops."""
    async with with_a_finished_job(app) as job:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await CALLS[name](app, job)

        assert scope.cancelled_caught
