# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.bench]
# here = true
# docs = [
#   "docs/operations.md: one worker process a core; concurrency is the worker's, a hundred serve no-op jobs as well as more",
#   "docs/guide.md: results=False where nobody asks for the result",
# ]
# note = "With a limit, its TTL is 2 s instead of 10 s: a worker on an empty Redis waits for one TTL before it starts limited jobs, which each turn would repeat. Fencing, timeouts, cancellation and statistics are on."
# queued = "XLEN flowq:{peers}:s:noop"
# wide = { by = "concurrency" }
# limits = true
# [tool.bench.contestants]
# "trio limit=50" = { loop = "trio", limit = 50, ttl = 2, only = ["a"] }
# "trio" = { loop = "trio" }
# "asyncio limit=50" = { loop = "asyncio", limit = 50, ttl = 2, only = ["a"] }
# "asyncio" = { loop = "asyncio" }
# "trio limit=50 results" = { loop = "trio", limit = 50, ttl = 2, results = true, only = ["a"] }
# "trio results" = { loop = "trio", results = true, only = ["a"] }
# "asyncio limit=50 results" = { loop = "asyncio", limit = 50, ttl = 2, results = true, only = ["a"] }
# "asyncio results" = { loop = "asyncio", results = true, only = ["a"] }
# [[tool.bench.settings]]
# concurrency = 100
# ///
"""flowq, run as its peers are. Results are off unless the contestant says otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import adapter
import anyio
from evidence import SETTINGS, registered

import flowq

app = flowq.App(
    "peers",
    SETTINGS.get("url"),
    results=bool(SETTINGS.get("results")),
    lease_ttl=SETTINGS.get("ttl", 10),
)


def task_of(name: str, body: Any) -> flowq.Task[Any, Any]:
    """The limit is for the bodies of workloads (a) and (e), where a contestant has one."""
    limit = SETTINGS.get("limit") if name in ("noop", "scarce") else None
    made: flowq.Task[Any, Any] = app.task(name=name, limit=limit, max_crashes=None if name == "hold" else 3)(
        body
    )
    return made


TASKS: dict[str, flowq.Task[Any, Any]] = registered(task_of)


class Producer(adapter.Producer):
    """Each call returns when Redis has answered."""

    async def one(self, body: str, *args: Any) -> None:
        await TASKS[body].enqueue(*args)

    async def many(self, body: str, args: Sequence[tuple[Any, ...]]) -> None:
        task = TASKS[body]
        await app.enqueue_many([task.bind(*one) for one in args])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    """The producer side of the app."""
    async with app:
        yield Producer()


def work() -> None:
    """One worker process."""
    anyio.run(partial(flowq.run, app, concurrency=SETTINGS["concurrency"]), backend=SETTINGS["loop"])


if __name__ == "__main__":
    adapter.main(work, opened=opened)
