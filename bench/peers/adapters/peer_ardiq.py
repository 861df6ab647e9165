# /// script
# requires-python = ">=3.13"
# dependencies = ["ardiq==1.2.0"]
# [tool.bench]
# docs = [
#   "https://ardiq.bytay.dev/guides/performance/: one worker process, 10 concurrent tasks, results kept by their TTL (they cannot be switched off; 1 s here)",
# ]
# queued = "XLEN ardiq:bench:queues:default"
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

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import adapter
from ardiq import Ardiq

OPTIONS = {name: adapter.SETTINGS[name] for name in ("concurrency", "prefetch") if name in adapter.SETTINGS}
app = Ardiq(redis_url=adapter.SETTINGS.get("url"), queue_name="bench", result_ttl_ms=1000, **OPTIONS)


@app.task(name="noop")
async def noop() -> None:
    adapter.noop()


@app.task(name="probe")
async def probe(sent: float) -> None:
    adapter.probe(sent)


@app.task(name="hold")
async def hold(number: int, seconds: float) -> None:
    adapter.hold(number)
    await asyncio.sleep(seconds)


TASKS: dict[str, Any] = {"noop": noop, "probe": probe, "hold": hold}


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
