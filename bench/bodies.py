"""One worker in the measuring process itself: for benches that time bodies by the thousand.

The jobs are stored first and held back by a pause, so that what is timed begins with a full queue and a worker that is up.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import redis

import flowq
from bench.server import Usage, usage
from flowq._clock import monotonic_clock

now = monotonic_clock()
"""The clock of ``WorkerStats.last_answer``."""

CHUNK = 5000
LOOK = 0.02
"""Seconds between looks whether all jobs have ended. A look walks over the consumers, so it is not for nothing; when the last answer
came is told by the worker."""


@attrs.frozen
class Took:
    """What it cost to run the jobs of one task."""

    jobs: int
    seconds: float
    cpu_us: float
    """User and system time of the measuring process, all its threads."""
    server: Usage
    """The difference."""
    turns: int

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds

    def figures(self) -> dict[str, float]:
        """By the job."""
        n = self.jobs
        return {
            "per_second": self.per_second,
            "client_us": self.cpu_us / n,
            "redis_us": self.server.cpu_us / n,
            "script_us": self.server.script_us / n,
            "calls": self.server.calls / n,
            "commands": self.server.commands / n,
            "per_turn": n / self.turns,
        }


@attrs.frozen
class Bench:
    """An app with its worker running here, and what it takes to measure a task of it."""

    app: flowq.App[Any]
    worker: flowq.Worker
    client: redis.Redis

    async def fill(self, task: flowq.Task[Any, Any], jobs: int, *args: object) -> None:
        """Store so many jobs, held back."""
        await self.app.pause(task)
        bound = task.bind(*args)
        for begin in range(0, jobs, CHUNK):
            await self.app.enqueue_many([bound] * min(CHUNK, jobs - begin))

    async def drain(self, task: flowq.Task[Any, Any], jobs: int) -> Took:
        """Let them go, and wait until the server has heard of each one's end."""
        worker = self.worker
        target = worker.stats().succeeded + jobs
        before, turns = usage(self.client), worker.stats().turns
        began, cpu = now(), time.process_time()
        await self.app.resume(task)
        while worker.stats().succeeded < target:  # noqa: ASYNC110 - an event would have to be set by flowq or by each body
            await anyio.sleep(LOOK)
        seconds, cpu = worker.stats().last_answer - began, time.process_time() - cpu
        after = usage(self.client)
        spent = Usage(
            after.cpu_us - before.cpu_us,
            after.calls - before.calls,
            after.commands - before.commands,
            after.script_us - before.script_us,
        )
        took = Took(jobs, seconds, cpu * 1e6, spent, worker.stats().turns - turns)
        self._check(task, jobs)
        return took

    def _check(self, task: flowq.Task[Any, Any], jobs: int) -> None:
        """Redis agrees that all of them are done: otherwise the figure is worth nothing."""
        prefix = f"flowq:{{{self.app.name}}}:"
        left: Any = self.client.xlen(f"{prefix}s:{task.name}")
        done: Any = self.client.hget(f"{prefix}stats:{task.name}", "succeeded")
        self.client.delete(f"{prefix}stats:{task.name}")
        if left or int(done or 0) != jobs:
            raise RuntimeError(f"{task.name}: {done} of {jobs} jobs succeeded and {left} are left")


@asynccontextmanager
async def open_bench(app: flowq.App[Any], url: str, concurrency: int) -> AsyncIterator[Bench]:
    """Run a worker of ``app`` for the length of a block; it begins when limited tasks may start.

    Args:
        app: with a task ``probe`` (``add_probe``).
        url: the server's own, for its counters.
        concurrency: of the worker.
    """
    client = redis.Redis.from_url(url, decode_responses=True)
    async with app, anyio.create_task_group() as tasks:
        worker: flowq.Worker = await tasks.start(partial(flowq.run, app, concurrency=concurrency))
        await app.enqueue("probe")
        with anyio.fail_after(60):
            while worker.stats().succeeded < 1:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.02)
        yield Bench(app, worker, client)
        await worker.drain()
    client.close()


def add_probe(app: flowq.App[Any]) -> None:
    """A limited task: once a job of it has run, no quarantine is in the way of the others."""

    @app.task(limit=1)
    async def probe() -> None:
        pass


async def noop() -> None:
    """The smallest body."""
