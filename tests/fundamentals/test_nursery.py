"""A worker is a function that runs until it is cancelled, so it lives in your nursery beside your own tasks."""

from __future__ import annotations

from functools import partial

import anyio

import flowq


async def test_nursery(app: flowq.App[None]) -> None:
    """``await nursery.start(flowq.run, app)`` returns when the worker consumes. Cancelling is prompt, and hands jobs back."""
    started = anyio.Event()
    attempts = []

    @app.task
    async def slow() -> str:
        attempts.append(flowq.current_job().attempt)
        started.set()
        if len(attempts) == 1:
            await anyio.sleep_forever()
        return "done"

    async with app:
        async with anyio.create_task_group() as nursery:
            worker: flowq.Worker = await nursery.start(partial(flowq.run, app, concurrency=4))
            job = await slow.enqueue()
            await started.wait()
            assert worker.stats().running == 1
            nursery.cancel_scope.cancel()

        # the next worker runs it again; being handed back is no failed attempt
        async with flowq.open_worker(app):
            assert await job.result(timeout=10) == "done"
    assert attempts == [1, 1]
