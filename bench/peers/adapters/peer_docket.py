# /// script
# requires-python = ">=3.11"
# dependencies = ["pydocket==0.27.0", "hiredis==3.5.0", "uvloop==0.23.0"]
# [tool.bench]
# docs = [
#   "https://docket.lol/en/latest/production/: concurrency is the knob (10 by default); execution_ttl=0 keeps no record of an ended job",
# ]
# queued = "XLEN bench:stream"
# [tool.bench.contestants]
# "asyncio" = { loop = "asyncio" }
# "uvloop" = { loop = "uvloop" }
# [[tool.bench.settings]]
# concurrency = 10
# [[tool.bench.settings]]
# concurrency = 50
# [[tool.bench.settings]]
# concurrency = 200
# ///
"""docket: asyncio, Redis Streams and Lua."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import adapter
from docket import Docket, Worker


async def noop() -> None:
    adapter.noop()


async def probe(sent: float) -> None:
    adapter.probe(sent)


async def hold(number: int, seconds: float) -> None:
    adapter.hold(number)
    await asyncio.sleep(seconds)


TASKS: dict[str, Any] = {"noop": noop, "probe": probe, "hold": hold}


def docket() -> Docket:
    found = Docket(name="bench", url=adapter.SETTINGS["url"], execution_ttl=timedelta(0))
    for task in TASKS.values():
        found.register(task)
    return found


class Producer(adapter.Producer):
    def __init__(self, to: Docket) -> None:
        self.to = to

    async def one(self, body: str, *args: Any) -> None:
        await self.to.add(TASKS[body])(*args)

    async def many(self, body: str, args: Sequence[tuple[Any, ...]]) -> None:
        await self.to.add_many([self.to.call(TASKS[body])(*one) for one in args])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    async with docket() as to:
        yield Producer(to)


def work() -> None:
    logging.disable(logging.INFO)

    async def run() -> None:
        async with docket() as to, Worker(to, concurrency=adapter.SETTINGS["concurrency"]) as worker:
            await worker.run_forever()

    adapter.run_async(run)


if __name__ == "__main__":
    adapter.main(work, opened=opened)
