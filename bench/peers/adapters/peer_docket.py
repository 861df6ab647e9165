# /// script
# requires-python = ">=3.11"
# dependencies = ["pydocket==0.27.0", "hiredis==3.5.0", "uvloop==0.23.0"]
# [tool.bench]
# docs = [
#   "https://docket.lol/en/latest/production/: concurrency is the knob (10 by default); execution_ttl=0 keeps no record of an ended job",
#   "its Worker sleeps for minimum_check_interval (250 ms) when all its slots are taken, which holds no-op jobs to 4 x concurrency a second: 5 or 10 ms here",
# ]
# queued = "XLEN bench:stream"
# wide = { by = "concurrency", check = 0.005 }
# limits = true
# [tool.bench.contestants]
# "asyncio" = { loop = "asyncio" }
# "uvloop" = { loop = "uvloop" }
# [[tool.bench.settings]]
# concurrency = 10
# check = 0.01
# [[tool.bench.settings]]
# concurrency = 50
# check = 0.01
# [[tool.bench.settings]]
# concurrency = 90
# check = 0.005
# ///
"""docket: asyncio, Redis Streams and Lua."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import adapter
from docket import ConcurrencyLimit, Docket, Worker
from evidence import BODIES, SETTINGS

LIMIT = ConcurrencyLimit(max_concurrent=SETTINGS.get("limit", 1))


async def scarce(
    number: int,
    seconds: float,
    _: ConcurrencyLimit = LIMIT,
) -> None:
    """(e): docket reads a limit from a parameter's default."""
    await BODIES["scarce"](number, seconds)


TASKS = {**BODIES, "scarce": scarce}


def docket() -> Docket:
    found = Docket(name="bench", url=SETTINGS["url"], execution_ttl=timedelta(0))
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


def worker_of(to: Docket) -> Worker:
    return Worker(
        to,
        concurrency=SETTINGS["concurrency"],
        minimum_check_interval=timedelta(seconds=SETTINGS["check"]),
    )


def work() -> None:
    logging.disable(logging.INFO)

    async def run() -> None:
        async with docket() as to, worker_of(to) as worker:
            await worker.run_forever()

    adapter.run_async(run)


if __name__ == "__main__":
    adapter.main(work, opened=opened)
