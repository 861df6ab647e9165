"""Draining is the gentle end: no new jobs, what waits goes back, what runs may finish."""

from __future__ import annotations

import anyio

import flowq


async def test_drain(app: flowq.App[None]) -> None:
    """``worker.drain(grace=20)`` returns when the worker has ended. ``open_worker`` drains at a normal exit, and so does
    ``flowq run`` on SIGTERM.
    """
    started, finish = anyio.Event(), anyio.Event()

    @app.task
    async def slow(n: int) -> int:
        started.set()
        await finish.wait()
        return n

    async with app, flowq.open_worker(app, concurrency=1) as worker:
        running = await slow.enqueue(1)
        waiting = await slow.enqueue(2)
        await started.wait()

        async with anyio.create_task_group() as nursery:
            nursery.start_soon(worker.drain)
            while not worker.stats().is_draining:  # noqa: ASYNC110 - a real program has nothing to wait for here
                await anyio.sleep(0.001)
            finish.set()

        assert await running.result(timeout=10) == 1
        assert await waiting.status() == "ready"
        assert await waiting.cancel() == "removed"
