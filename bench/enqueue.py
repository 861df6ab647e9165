"""How many jobs a second does one process store: one by one, by a hundred tasks at once, in bulk?

Nobody serves the task meanwhile, so the other core is Redis's alone. Every call is awaited until Redis has answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import redis

import flowq
from bench.bodies import noop
from bench.child import measured, profiled
from bench.conditions import Conditions, Figure, Target
from bench.server import running_server, usage

BULK = 500
TASKS = 100
TARGETS = {f"bulk of {BULK}": Target("at least", 100_000, "issue 6 (b)")}


WAYS = {"one by one": 1, f"{TASKS} at once": TASKS, f"bulk of {BULK}": 1}
"""How many tasks call at once."""


async def submit(url: str, seconds: float, only: str = "", profile: str = "") -> dict[str, dict[str, float]]:
    """Each way for so long (in a child process: see ``measured``).

    Args:
        url: the server's own URL.
        seconds: of each way.
        only: leave the other ways out.
        profile: a file for cProfile's statistics.
    """
    app = flowq.App("enqueue", url)
    task: Any = app.task(results=False)(noop)
    client = redis.Redis.from_url(url)
    found = {}
    async with app:

        async def one() -> int:
            await task.enqueue()
            return 1

        async def bulk() -> int:
            return len(await app.enqueue_many([task.bind() for _ in range(BULK)]))

        await one()
        for name, tasks in WAYS.items():
            if not only or name == only:
                call = bulk if name.startswith("bulk") else one
                with profiled(profile):
                    found[name] = await _repeat(call, tasks, seconds, client)
                client.flushall()
    client.close()
    return found


async def _repeat(
    call: Callable[[], Awaitable[int]], tasks: int, seconds: float, client: redis.Redis
) -> dict[str, float]:
    stored = 0
    before = usage(client)
    began, cpu = time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal stored
        while time.perf_counter() < began + seconds:
            more = await call()  # on a line of its own: `stored += await …` reads stored before it waits
            stored += more

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(caller)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    after = usage(client)
    return {
        "per_second": stored / took,
        "client_us": cpu / stored * 1e6,
        "redis_us": (after.cpu_us - before.cpu_us) / stored,
        "script_us": (after.script_us - before.script_us) / stored,
    }


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            rows = [
                measured(submit, backend, url=server.url, seconds=conditions.seconds)
                for _ in range(conditions.runs)
            ]
            for name in rows[0]:
                for key, unit in (
                    ("per_second", "jobs/s"),
                    ("client_us", "client µs/job"),
                    ("redis_us", "Redis µs/job"),
                ):
                    samples = [row[name][key] for row in rows]
                    target = TARGETS.get(name) if key == "per_second" else None
                    figures.append(Figure("enqueue", backend, name, unit, samples, target))
    return figures
