"""Code without an event loop, such as a Django view, enqueues by ``app.sync()``."""

from __future__ import annotations

import anyio.to_thread

import flowq


async def test_sync_producer(app: flowq.App[None]) -> None:
    """It takes bound calls, blocks, and may be kept and shared by threads."""

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    def view() -> int:
        with app.sync() as producer:
            return producer.enqueue(double.bind(21)).result(timeout=10)

    async with flowq.open_worker(app):
        assert await anyio.to_thread.run_sync(view) == 42
