"""Does it stay as fast when there is more of everything: a backlog up to a million jobs, 200 task types, 64 workers?

*Backlog*: no-op jobs a second of one process, over the same number of jobs, from a stream that holds so many. *Task types*: the same
jobs, spread evenly over so many types. Both unlimited. *Latency*: enqueue → first line of an idle task while so many jobs of a paused one wait. *Idle fleet*: so many
workers, each a member with connections of its own, in one process; Redis's CPU time and requests while nothing is to do.
*Busy fleet*: no-op jobs a second over so many worker processes; with more of them than cores they share those.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import anyio
import redis

import flowq
from bench import marks
from bench.bodies import CHUNK, LOOK, add_probe, noop, now, open_bench
from bench.child import measured
from bench.conditions import Conditions, Figure, Target, percentile
from bench.fleet import fleet_of
from bench.server import Server, running_server, usage

BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
TYPES = (1, 10, 50, 200)
FLEETS = (1, 8, 64)
BUSY = (1, 2, 4, 8, 16)
RATE = 40_000
"""Jobs timed for each second of the measurement."""
CONCURRENCY = 100


async def drain_from(url: str, backlog: int, jobs: int) -> float:
    """Jobs a second over the first ``jobs`` of so large a backlog; smaller ones are filled again and again (in a child process)."""
    app = flowq.App("growth", url)
    add_probe(app)
    task: Any = app.task(name="noop", results=False)(noop)
    async with open_bench(app, url, CONCURRENCY) as bench:
        if backlog <= jobs:
            took = []
            for _ in range(math.ceil(jobs / backlog)):
                await bench.fill(task, backlog)
                took.append(await bench.drain(task, backlog))
            return sum(one.jobs for one in took) / sum(one.seconds for one in took)
        await bench.fill(task, backlog)
        stats = bench.worker.stats
        first = stats().succeeded
        began = now()
        await app.resume(task)
        while stats().succeeded < first + jobs:  # noqa: ASYNC110 - flowq sets no event for it
            await anyio.sleep(LOOK)
        rate = (stats().succeeded - first) / (now() - began)
        await app.pause(task)
        return rate


async def drain_types(url: str, types: int, jobs: int) -> dict[str, float]:
    """Jobs a second, and µs of Redis by the job, of jobs spread over so many types (in a child process)."""
    app = flowq.App("growth", url)
    add_probe(app)
    tasks: list[Any] = [app.task(name=f"noop{n}", results=False)(noop) for n in range(types)]
    async with open_bench(app, url, CONCURRENCY) as bench:
        for task in tasks:
            await app.pause(task)
        calls = [tasks[n % types].bind() for n in range(jobs)]
        for begin in range(0, jobs, CHUNK):
            await app.enqueue_many(calls[begin : begin + CHUNK])
        stats = bench.worker.stats
        first, before, began = stats().succeeded, usage(bench.client), now()
        for task in tasks:
            await app.resume(task)
        while stats().succeeded < first + jobs:  # noqa: ASYNC110 - as above
            await anyio.sleep(LOOK)
        return {
            "per_second": jobs / (stats().last_answer - began),
            "redis_us": (usage(bench.client).cpu_us - before.cpu_us) / jobs,
        }


async def delays_beside(url: str, backlog: int, count: int) -> list[float]:
    """Milliseconds from before ``enqueue`` to the body's first line, while another task's backlog waits (in a child process)."""
    app = flowq.App("growth", url)
    add_probe(app)
    waits: Any = app.task(name="waits", results=False)(noop)
    found: list[float] = []

    @app.task(results=False)
    async def first_line(sent: float) -> None:
        found.append((time.perf_counter() - sent) * 1000)

    async with open_bench(app, url, CONCURRENCY) as bench:
        await bench.fill(waits, backlog)
        for n in range(count):
            await first_line.enqueue(time.perf_counter())
            with anyio.fail_after(10):
                while len(found) <= n:  # noqa: ASYNC110 - the look is after the moment that counts
                    await anyio.sleep(0.005)
    return found


async def idle_fleet(url: str, workers: int, seconds: float) -> dict[str, float]:
    """Percent of a core that Redis spends on so many idle workers, and its commands a second (in a child process)."""
    client = redis.Redis.from_url(url, decode_responses=True)
    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            app = flowq.App("growth", url)
            add_probe(app)
            app.task(name="noop", results=False)(noop)
            await tasks.start(partial(flowq.run, app, concurrency=8))
        await anyio.sleep(3)
        before, began = usage(client), time.monotonic()
        await anyio.sleep(seconds)
        after, took = usage(client), time.monotonic() - began
        tasks.cancel_scope.cancel()
    client.close()
    return {
        "share": (after.cpu_us - before.cpu_us) / took / 1e4,
        "commands": (after.commands - before.commands) / took,
    }


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question, on the first of the loops that are asked for."""
    backend = conditions.backends[0]
    with running_server(conditions) as server:
        return [
            *_backlogs(server, backend, conditions),
            *_types(server, backend, conditions),
            *_delays(server, backend, conditions),
            *_idle(server, backend, conditions),
            *_busy(server, backend, conditions),
        ]


def _forget(server: Server) -> None:
    with server.client() as client:
        client.flushall()


def _backlogs(server: Server, backend: str, conditions: Conditions) -> list[Figure]:
    jobs = int(RATE * conditions.seconds)
    rates: dict[int, list[float]] = {backlog: [] for backlog in BACKLOGS}
    for run in range(conditions.runs):
        for backlog in BACKLOGS if run % 2 == 0 else BACKLOGS[::-1]:
            rates[backlog].append(measured(drain_from, backend, url=server.url, backlog=backlog, jobs=jobs))
            _forget(server)
    figures = [
        Figure("growth", backend, f"backlog {backlog:,}: no-op jobs", "jobs/s", rates[backlog])
        for backlog in BACKLOGS
    ]
    pairs = [large / small for large, small in zip(rates[1_000_000], rates[10_000], strict=True)]
    target = Target("at least", 0.9, "issue 6 (h)")
    return [*figures, Figure("growth", backend, "backlog 1,000,000 / 10,000", "ratio", pairs, target)]


def _types(server: Server, backend: str, conditions: Conditions) -> list[Figure]:
    jobs = int(RATE * conditions.seconds)
    found: dict[int, list[dict[str, float]]] = {types: [] for types in TYPES}
    for run in range(conditions.runs):
        for types in TYPES if run % 2 == 0 else TYPES[::-1]:
            found[types].append(measured(drain_types, backend, url=server.url, types=types, jobs=jobs))
            _forget(server)
    figures = []
    for types in TYPES:
        for key, unit in (("per_second", "jobs/s"), ("redis_us", "Redis µs/job")):
            samples = [one[key] for one in found[types]]
            figures.append(Figure("growth", backend, f"{types} task types: no-op jobs", unit, samples))
    pairs = [
        many["per_second"] / one["per_second"] for many, one in zip(found[TYPES[-1]], found[1], strict=True)
    ]
    target = Target("at least", 0.65, "CORRECTIONS 4.3")
    return [*figures, Figure("growth", backend, f"{TYPES[-1]} types / 1 type", "ratio", pairs, target)]


def _delays(server: Server, backend: str, conditions: Conditions) -> list[Figure]:
    figures = []
    for backlog in (0, *BACKLOGS[1:]):
        rounds = []
        for _ in range(conditions.runs):
            rounds.append(measured(delays_beside, backend, url=server.url, backlog=backlog, count=50))
            _forget(server)
        name = f"latency beside {backlog:,} waiting jobs, p50"
        figures.append(Figure("growth", backend, name, "ms", [percentile(one, 50) for one in rounds]))
    return figures


def _idle(server: Server, backend: str, conditions: Conditions) -> list[Figure]:
    figures = []
    for workers in FLEETS:
        found = []
        for _ in range(conditions.runs):
            found.append(
                measured(idle_fleet, backend, url=server.url, workers=workers, seconds=5 * conditions.seconds)
            )
            _forget(server)
        target = Target("at most", 2.0, "issue 6 (h)") if workers == FLEETS[-1] else None
        name = f"{workers} idle workers: Redis"
        figures.append(
            Figure("growth", backend, name, "% of a core", [one["share"] for one in found], target)
        )
        figures.append(
            Figure("growth", backend, name, "commands/s, scripts' own among them", [one["commands"] for one in found])
        )  # fmt: skip
    return figures


async def _fill_held(app: flowq.App[Any], jobs: int) -> None:
    """Store jobs that the fleet may start only when all are there."""
    async with app:
        await app.pause("first_line")
        for _ in range(0, jobs, CHUNK):
            await app.enqueue_many([app.ref("first_line").bind(0, 0.0)] * CHUNK)
        await app.resume("first_line")


def _busy(server: Server, backend: str, conditions: Conditions) -> list[Figure]:
    figures = []
    jobs = int(10_000 * conditions.seconds)
    for workers in BUSY:
        with fleet_of(server, backend) as fleet:
            app = flowq.App(fleet.app, url=server.url)
            for _ in range(workers):
                fleet.start(concurrency=CONCURRENCY)
            rates = []
            for _ in range(conditions.runs):
                fleet.forget()
                anyio.run(_fill_held, app, jobs)
                fleet.wait_for("first", jobs, 120)
                ends = [mark.at for mark in marks.read(fleet.marks, "first")]
                rates.append(jobs / (max(ends) - min(ends)))
        name = f"{workers} busy worker{'s' if workers > 1 else ''}: jobs that write a line"
        figures.append(Figure("growth", backend, name, "jobs/s", rates))
    return figures
