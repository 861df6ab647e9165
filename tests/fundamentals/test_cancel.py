"""``await job.cancel()``: a job that waits never starts; one that runs is told to stop."""

from __future__ import annotations

import anyio
import pytest

import flowq


async def test_cancel_before_it_starts(app: flowq.App[None]) -> None:
    """It is removed, and who waits for it learns why."""

    @app.task
    async def work() -> None: ...

    async with app:
        job = await work.options(delay=3600).enqueue()

        assert await job.cancel("no longer needed") == "removed"
        with pytest.raises(flowq.JobCancelled) as caught:
            await job.result(timeout=10)
    assert caught.value.reason == "no longer needed"


async def test_cancel_while_it_runs(app: flowq.App[None]) -> None:
    """The body's scope is cancelled, in whatever worker it runs; ``wait=True`` returns when it has left."""
    started = anyio.Event()

    @app.task
    async def endless() -> None:
        started.set()
        await anyio.sleep_forever()

    async with flowq.open_worker(app):
        job = await endless.enqueue()
        await started.wait()

        assert await job.cancel(wait=True) == "requested"
        assert await job.status() == "cancelled"
