"""``flowq.testing.as_job``: a body called as the function that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

import flowq


@pytest.fixture
def app() -> flowq.App[None]:
    return flowq.App("shop", "memory://")


async def test_a_body_sees_the_job_it_is_given(app: flowq.App[None]) -> None:
    """Called directly, with ``current_job()`` as the test says; no worker, no server."""

    @app.task
    async def work() -> tuple[str, int, int, str | None]:
        await checkpoint()
        job = flowq.current_job()
        return job.task, job.attempt, job.fence, job.headers.get("trace")

    with flowq.testing.as_job(work, attempt=2, fence=7, headers={"trace": "1"}) as job:
        assert await work() == ("work", 2, 7, "1")
        assert job.id == "work:0-1"
        assert job.cancel_reason is None


async def test_it_reaches_tasks_and_threads_of_the_body() -> None:
    """As in a worker: whatever the body starts sees its job."""
    seen: list[int] = []

    async def child() -> None:
        seen.append(flowq.current_job().attempt)

    with flowq.testing.as_job(attempt=3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
        seen.append(await anyio.to_thread.run_sync(lambda: flowq.current_job().attempt))
    assert seen == [3, 3]


def test_it_ends_with_the_block_and_nests() -> None:
    """Outside there is no job; inside, the innermost counts."""

    def inner() -> None:
        with flowq.testing.as_job(attempt=2):
            assert flowq.current_job().attempt == 2
            raise KeyError

    with flowq.testing.as_job(attempt=1):
        with pytest.raises(KeyError):
            inner()
        assert flowq.current_job().attempt == 1
    with pytest.raises(LookupError):
        flowq.current_job()


def test_what_the_body_raises_comes_out(app: flowq.App[None]) -> None:
    """A test can see that a body asks for another attempt."""

    @app.task
    def work() -> None:
        if flowq.current_job().attempt < 3:
            raise flowq.Retry(after=5)
        raise flowq.Reject("enough")

    with flowq.testing.as_job(), pytest.raises(flowq.Retry) as caught:
        work()
    assert caught.value.after == 5
    with flowq.testing.as_job(attempt=3), pytest.raises(flowq.Reject, match="enough"):
        work()


def test_the_apps_state_can_be_given() -> None:
    """What the lifespan would yield is said by the test; without it there is none."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        yield "a real pool"

    app = flowq.App("shop", lifespan=lifespan)

    @app.task
    def work() -> str:
        return app.state

    with flowq.testing.as_job(app=app, state="a fake pool"):
        assert work() == "a fake pool"
    with flowq.testing.as_job(), pytest.raises(LookupError, match="lifespan"):
        work()
