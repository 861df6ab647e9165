"""What the runtime alone costs per job: consumers and exchange over a stream that hands out deliveries made beforehand.

No server, no wrapper, no bytes on a wire: the double's ``exchange`` is one checkpoint and a slice of a list. The figure is the
process's CPU time per job while N no-op jobs pass, so it holds on a noisy machine, too. The budget is 7 µs with a limit.

Usage: ``python bench/runtime_memory.py [-n JOBS] [-c CONCURRENCY] [-r ROUNDS] [--profile]``.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

import flowq
from flowq._fleet import Survey
from flowq._model import (
    Claimed,
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    Joined,
    Renewed,
    Settled,
    Status,
    Want,
)
from flowq._runtime.options import RunOptions
from flowq._runtime.worker import Worker, serve
from flowq.backends.protocol import Capabilities, Standing

LIMIT = 50
OK = Settled(Status.OK)


class Double:
    """A place with ``jobs`` ready jobs of one lane, and nothing else: stream, fleet and timers in one."""

    capabilities = Capabilities("double", True, True, True, True, False)
    generation = 1

    def __init__(self, jobs: int, limit: int | None) -> None:
        raw = b'{"v":1,"task":"noop","args":[1]}'
        ms = 1732400000000
        self.waiting = [
            Delivery("noop", f"{ms + i // 1000}-{i % 1000}", 1, "e", i + 1, 0, raw) for i in range(jobs)
        ]
        self.waiting.reverse()
        self.limit = limit
        self.limits = {} if limit is None else {"noop": limit}
        self.used = 0
        self.settled = 0
        self.jobs = jobs
        self.turns = 0
        self.done = anyio.Event()
        self.stream = self.fleet = self.timers = self.results = self

    async def exchange(self, _me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        await anyio.lowlevel.checkpoint()
        self.turns += 1
        self.settled += len(ended)
        self.used -= len(ended)
        if self.settled == self.jobs:
            self.done.set()
        claimed = None
        if want is not None:
            count = want.room + sum(want.extra.values())
            if self.limit is not None:
                count = min(count, self.limit - self.used)
            grants = self.waiting[-count:] if count > 0 else []
            if grants:
                del self.waiting[-count:]
            self.used += len(grants)
            claimed = Claimed(Status.OK, "e", grants, self.limits if grants else {})
        return Exchanged(OK if ended else None, claimed)

    async def wait_ring(self, _me: Standing, block: float) -> bool:
        await anyio.sleep(block)
        return False

    def stop_waiting(self) -> None:
        pass

    async def mine(self, _me: Standing, _known: Sequence[Delivery]) -> Settled:
        return OK

    async def join(self, _facts: Any, _lanes: Mapping[str, Any], **_: Any) -> Joined:
        return Joined("m", "e", [], 0.0)

    async def confirm(self, _me: Standing, known: Sequence[Delivery]) -> Confirmed:
        return Confirmed(Status.OK, "e", [delivery.fence for delivery in known])

    async def leave(self, _me: Standing) -> None:
        pass

    def renewer(self) -> Double:
        return self

    def renew(self, _me: Standing, _running: int, _heard: str = "") -> Renewed:
        return Renewed(Status.OK, [])

    def close(self) -> None:
        pass

    def on_control(self, _callback: Callable[[], None]) -> None:
        pass

    async def cancels(self) -> list[tuple[str, str, str]]:
        return []

    async def survey(self, _me: Standing) -> Survey:
        return Survey(False, None, None, 0, {}, {}, frozenset())

    async def note(self, _me: Standing, *, draining: bool, skewed: Mapping[str, int]) -> None:
        pass

    async def foreign(self) -> dict[str, str]:
        return {}

    async def promote(self) -> None:
        return None

    async def wait_up(self) -> None:
        pass

    async def warnings(self) -> list[str]:
        return []


class BenchApp(flowq.App[None]):
    """An app whose worker works on the double."""

    double: Double

    def opener(self) -> Any:
        @asynccontextmanager
        async def opening() -> AsyncIterator[Double]:
            yield self.double

        return opening


async def measure(
    jobs: int, concurrency: int, limit: int | None, results: bool, profile: bool
) -> tuple[float, float, int]:
    """CPU microseconds a job, jobs a second, and jobs a turn."""
    app = BenchApp("bench", "memory://")

    @app.task(limit=limit, results=results)
    async def noop(_x: int) -> None:
        return None

    app.double = Double(jobs, limit)
    options = RunOptions(concurrency=concurrency)
    profiler = cProfile.Profile() if profile else None
    async with anyio.create_task_group() as tasks:
        begin, cpu = time.perf_counter(), time.process_time()
        if profiler is not None:
            profiler.enable()
        worker: Worker = await tasks.start(partial(serve, app, options))
        await app.double.done.wait()
        if profiler is not None:
            profiler.disable()
        took, used = time.perf_counter() - begin, time.process_time() - cpu
        await worker.drain()
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(22)
    return used / jobs * 1e6, jobs / took, jobs // max(1, app.double.turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60_000)
    parser.add_argument("-c", type=int, default=100)
    parser.add_argument("-r", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    for backend in ("trio", "asyncio"):
        for limit, results in ((None, False), (LIMIT, False), (LIMIT, True)):
            rows = [
                anyio.run(measure, args.n, args.c, limit, results, args.profile, backend=backend)
                for _ in range(args.r)
            ]
            cpu = statistics.median(row[0] for row in rows)
            rate = statistics.median(row[1] for row in rows)
            best = min(row[0] for row in rows)
            print(
                f"{backend:8} limit {limit or '-':>3} results {'on ' if results else 'off'}: {cpu:5.2f} us CPU a job "
                f"(best {best:.2f}), {rate:8.0f} jobs/s, {rows[0][2]} jobs a turn"
            )


if __name__ == "__main__":
    main()
