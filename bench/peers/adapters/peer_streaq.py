# /// script
# requires-python = ">=3.11"
# dependencies = ["streaq==7.2.0", "uvloop==0.23.0", "trio==0.33.0"]
# [tool.bench]
# docs = [
#   "https://github.com/tastyware/streaq/blob/master/benchmarks/README.md: coredis.Config.optimized, uvloop, concurrency=32, enqueue_many",
#   "https://streaq.readthedocs.io/: ttl=0 keeps no results, silent=True logs nothing",
# ]
# queued = "XLEN streaq:bench:queues:normal"
# wide = { by = "concurrency" }
# [tool.bench.contestants]
# "uvloop" = { loop = "uvloop" }
# "trio" = { loop = "trio" }
# [[tool.bench.settings]]
# concurrency = 32
# [[tool.bench.settings]]
# concurrency = 100
# prefetch = 200
# [[tool.bench.settings]]
# concurrency = 16
# ///
"""streaQ: anyio, Redis Streams and Lua."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import adapter
import coredis
from evidence import SETTINGS, registered
from streaq import Worker

coredis.Config.optimized = True

LOOP = SETTINGS.get("loop", "uvloop")
worker: Worker[Any] = Worker(
    redis_url=SETTINGS.get("url", "redis://"),
    queue_name="bench",
    concurrency=SETTINGS.get("concurrency", 16),
    prefetch=SETTINGS.get("prefetch"),
    anyio_backend="trio" if LOOP == "trio" else "asyncio",
    anyio_kwargs={} if LOOP == "trio" else {"use_uvloop": LOOP == "uvloop"},
)

TASKS = registered(lambda name, body: worker.task(name=name, ttl=0, silent=True)(body))


class Producer(adapter.Producer):
    async def one(self, body: str, *args: Any) -> None:
        await TASKS[body].enqueue(*args)

    async def many(self, body: str, args: Sequence[tuple[Any, ...]]) -> None:
        await worker.enqueue_many([TASKS[body].enqueue(*one) for one in args])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    async with worker:
        yield Producer()


def work() -> None:
    logging.disable(logging.INFO)
    worker.run_sync()


if __name__ == "__main__":
    adapter.main(work, opened=opened)
