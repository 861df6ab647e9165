"""A lifespan opens what a worker's bodies share: a connection pool, a model, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import flowq


class Pool:
    """Stands for a connection pool."""

    def __init__(self) -> None:
        self.is_open = True

    async def fetch(self, query: str) -> str:
        assert self.is_open
        return f"rows of {query}"


async def test_lifespan(redis_url: str, app_name: str) -> None:
    """What it yields is ``app.state`` in bodies, and it ends when the worker does."""
    pools = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Pool]:
        pool = Pool()
        pools.append(pool)
        try:
            yield pool
        finally:
            pool.is_open = False

    app = flowq.App(app_name, redis_url, lifespan=lifespan)

    @app.task
    async def report(query: str) -> str:
        return await app.state.fetch(query)  # app.state is a Pool, for the type checker too

    async with flowq.open_worker(app):
        job = await report.enqueue("sales")
        assert await job.result(timeout=10) == "rows of sales"

    assert [pool.is_open for pool in pools] == [False]
