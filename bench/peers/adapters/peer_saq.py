# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis,hiredis]==0.26.4", "uvloop==0.23.0", "typing_extensions==4.15.0"]
# [tool.bench]
# docs = [
#   "https://github.com/tobymao/saq/blob/master/benchmarks/saq_bench.py: concurrency=10, results kept by their TTL",
#   "https://saq-py.readthedocs.io/en/latest/: hiredis extra; ttl=-1 disables keeping a job's record after its end",
# ]
# queued = "LLEN saq:default:queued"
# wide = { by = "concurrency", ops = 1000 }
# [tool.bench.contestants]
# "asyncio" = { loop = "asyncio" }
# "uvloop" = { loop = "uvloop" }
# [[tool.bench.settings]]
# concurrency = 10
# ops = 20
# [[tool.bench.settings]]
# concurrency = 32
# ops = 100
# [[tool.bench.settings]]
# concurrency = 100
# ops = 200
# ///
"""SAQ: asyncio, Redis lists and Lua. Its jobs keep no record after their end here (ttl=-1), and have no timeout of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import adapter
from evidence import SETTINGS, after_context, named, registered
from saq import Queue, Worker

FUNCTIONS = registered(lambda _, body: after_context(body))


def queue() -> Queue:
    return Queue.from_url(SETTINGS["url"], max_concurrent_ops=SETTINGS["ops"])


class Producer(adapter.Producer):
    def __init__(self, to: Queue) -> None:
        self.to = to

    async def one(self, body: str, *args: Any) -> None:
        await self.to.enqueue(body, ttl=-1, **named(body, args))


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    to = queue()
    yield Producer(to)
    await to.disconnect()


def work() -> None:
    async def run() -> None:
        worker: Any = Worker(queue(), functions=list(FUNCTIONS.values()), concurrency=SETTINGS["concurrency"])
        await worker.start()

    adapter.run_async(run)


if __name__ == "__main__":
    adapter.main(work, opened=opened)
