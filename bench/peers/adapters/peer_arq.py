# /// script
# requires-python = ">=3.11"
# dependencies = ["arq==0.28.0", "hiredis==3.5.0", "uvloop==0.23.0"]
# [tool.bench]
# docs = [
#   "https://arq-docs.helpmanual.io/: max_jobs, poll_delay, keep_result=0 and uvloop are what its reference offers; it gives no recipe for throughput",
# ]
# queued = "ZCARD arq:queue"
# wide = { by = "max_jobs", poll_delay = 0.01 }
# [tool.bench.contestants]
# "asyncio" = { loop = "asyncio" }
# "uvloop" = { loop = "uvloop" }
# [[tool.bench.settings]]
# max_jobs = 10
# poll_delay = 0.5
# [[tool.bench.settings]]
# max_jobs = 100
# poll_delay = 0.01
# [[tool.bench.settings]]
# max_jobs = 500
# poll_delay = 0.01
# ///
"""arq: asyncio, a sorted set that is polled. Results are not kept (keep_result=0)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import adapter
from arq import Worker, create_pool
from arq.connections import ArqRedis, RedisSettings
from evidence import SETTINGS, after_context, registered

FUNCTIONS = registered(lambda _, body: after_context(body))


class Producer(adapter.Producer):
    def __init__(self, pool: ArqRedis) -> None:
        self.pool = pool

    async def one(self, body: str, *args: Any) -> None:
        await self.pool.enqueue_job(body, *args)


def place() -> RedisSettings:
    return RedisSettings(host=SETTINGS["host"], port=SETTINGS["port"])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    pool = await create_pool(place())
    yield Producer(pool)
    await pool.aclose()


def work() -> None:
    logging.disable(logging.INFO)

    async def run() -> None:
        worker = Worker(
            list(FUNCTIONS.values()),
            redis_settings=place(),
            keep_result=0,
            log_results=False,
            max_jobs=SETTINGS["max_jobs"],
            poll_delay=SETTINGS["poll_delay"],
        )
        await worker.async_run()

    adapter.run_async(run)


if __name__ == "__main__":
    adapter.main(work, opened=opened)
