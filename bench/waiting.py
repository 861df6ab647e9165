"""Bodies that wait: which share of what a plain nursery does with as many tasks and the same bodies?

The nursery has ``concurrency`` tasks that run bodies back to back, with nothing between them: nobody can do better with that loop on
this machine. It runs in the same process, right before. *Limited* has as many tokens as there are consumers.
"""

from __future__ import annotations

import time
from typing import Any

import anyio

import flowq
from bench.bodies import add_probe, open_bench
from bench.child import measured
from bench.conditions import Conditions, Figure, Target
from bench.server import running_server

CASES = ((100, 0.050), (1000, 0.050), (100, 0.005), (1000, 0.005))
"""(concurrency, seconds of a body)"""
MOST = 15_000
"""Jobs for each second of the measurement: beyond that the case measures the loop's own limit."""
TARGETS = {
    (100, 0.050): Target("at least", 0.95, "CORRECTIONS 4.4"),
    (1000, 0.050): Target("at least", 0.80, "CORRECTIONS 4.4"),
    (100, 0.005): Target("at least", 0.80, "CORRECTIONS 4.4"),
}
"""For unlimited tasks."""


async def plain(concurrency: int, body: float, jobs: int) -> tuple[float, float]:
    """Bodies a second in a bare nursery, and µs of CPU for each."""
    left = jobs

    async def consumer() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await anyio.sleep(body)

    began, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(consumer)
    return jobs / (time.perf_counter() - began), (time.process_time() - cpu) / jobs * 1e6


async def compare(url: str, concurrency: int, body: float, jobs: int) -> dict[str, float]:
    """Shares of the plain nursery's rate, and that rate (in a child process: see ``measured``)."""
    app = flowq.App("waiting", url, results=False)
    add_probe(app)

    async def wait(seconds: float) -> None:
        await anyio.sleep(seconds)

    free: Any = app.task(name="free")(wait)
    limited: Any = app.task(name="limited", limit=concurrency)(wait)
    async with open_bench(app, url, concurrency) as bench:
        ideal, ideal_cpu = await plain(concurrency, body, jobs)
        shares = {"plain": ideal, "plain CPU": ideal_cpu}
        for name, task in (("unlimited", free), ("limited", limited)):
            await bench.fill(task, jobs, body)
            took = (await bench.drain(task, jobs)).figures()
            shares[name] = took["per_second"] / ideal
            shares[f"{name} CPU"] = took["client_us"] - ideal_cpu
    return shares


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            for concurrency, body in CASES:
                rate = min(concurrency / body, MOST)
                # whole rounds of all consumers, and enough of them that the first and the last count for little
                jobs = concurrency * max(5, round(rate * conditions.seconds / concurrency))
                rows = [
                    measured(compare, backend, url=server.url, concurrency=concurrency, body=body, jobs=jobs)
                    for _ in range(conditions.runs)
                ]
                figures += _figures(backend, concurrency, body, rows)
    return figures


def _figures(backend: str, concurrency: int, body: float, rows: list[dict[str, float]]) -> list[Figure]:
    def figure(key: str, name: str, unit: str, target: Target | None = None) -> Figure:
        case = f"{concurrency} × {body * 1000:.0f} ms"
        return Figure("waiting", backend, f"{case}, {name}", unit, [row[key] for row in rows], target)

    return [
        figure("unlimited", "unlimited", "of plain", TARGETS.get((concurrency, body))),
        figure("unlimited CPU", "unlimited: CPU beyond plain", "µs/job"),
        figure("limited", "limited", "of plain"),
        figure("limited CPU", "limited: CPU beyond plain", "µs/job"),
        figure("plain", "plain nursery", "bodies/s"),
        figure("plain CPU", "plain nursery: CPU", "µs/body"),
    ]
