# /// script
# requires-python = ">=3.13"
# dependencies = ["ardiq==1.2.0"]
# [tool.bench]
# docs = [
#   "https://ardiq.bytay.dev/guides/performance/: one worker process, 10 concurrent tasks, results kept by their TTL (they cannot be switched off; 1 s here)",
# ]
# queued = "XLEN ardiq:bench:queues:default"
# wide = { by = "concurrency", prefetch = 2000 }
# [tool.bench.contestants]
# "asyncio" = { loop = "asyncio" }
# [[tool.bench.settings]]
# concurrency = 10
# [[tool.bench.settings]]
# concurrency = 100
# prefetch = 200
# [[tool.bench.settings]]
# concurrency = 500
# prefetch = 1000
# ///
"""ArdiQ: its loop and its link to Redis are Rust; bodies run on asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import adapter
from ardiq import Ardiq
from evidence import SETTINGS, registered

OPTIONS = {name: SETTINGS[name] for name in ("concurrency", "prefetch") if name in SETTINGS}
app = Ardiq(redis_url=SETTINGS.get("url"), queue_name="bench", result_ttl_ms=1000, **OPTIONS)

TASKS = registered(lambda name, body: app.task(name=name)(body))


class Producer(adapter.Producer):
    async def one(self, body: str, *args: Any) -> None:
        await TASKS[body].enqueue(*args)

    async def many(self, body: str, args: Sequence[tuple[Any, ...]]) -> None:
        await app.enqueue_many([TASKS[body].prepare(*one) for one in args])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    yield Producer()


def work() -> None:
    adapter.exec_here("ardiq", "run", "--quiet", "peer_ardiq:app")


if __name__ == "__main__":
    adapter.main(work, opened=opened)
