"""Where do a job's microseconds go, in the worker and in Redis?

The worker's time is what a run without a profiler takes; how it is shared is cProfile's word, which makes calls dearer than they are: read
the shares as an order, not as figures. Redis's time is its CPU time by the job, and of that the part inside of scripts, by ``INFO
commandstats``. No-op jobs unlimited and with ``limit=50``, enqueue one by one, a hundred at once, in bulk.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import redis

import flowq
from bench.bodies import add_probe, noop, open_bench
from bench.child import measured
from bench.conditions import Conditions, Figure, percentile
from bench.enqueue import BULK, TASKS
from bench.server import running_server, usage

CONCURRENCY = 100
JOBS = 25_000
"""For each second of the measurement."""

ROOMS = (
    ("event loop", ("/trio/", "/anyio/", "/asyncio/", "/outcome/", "select.epoll", "selectors.py", "/sniffio/", "contextvars")),
    ("system calls of the socket", ("_socket.socket",)),
    ("replies: hiredis", ("hiredis",)),
    ("decode and encode: msgspec", ("msgspec", "/_codec.py", "/_envelope.py", "/_signature.py", "/_convert.py")),
    ("consumer: around the body", ("/_runtime/consumer.py", "/_runtime/judge.py", "/_runtime/lanes.py", "/_context.py")),
    ("exchange, intake, floor", ("/_runtime/",)),
    ("link to Redis, arguments of scripts", ("/backends/redis/", "/backends/entries.py")),
    ("submit: task, producer, ids", ("/flowq/_",)),
    ("body", ("/bench/bodies.py",)),
)  # fmt: skip
"""Name, and what a function's place or name contains; the first that fits."""
REST = "the rest: builtins"


def room_of(function: tuple[str, int, str]) -> str:
    """Of a function as pstats names it: file, line, name."""
    place = f"{function[0]}:{function[2]}"
    return next((name for name, signs in ROOMS if any(sign in place for sign in signs)), REST)


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Each room's part of the profiled time, waiting left out."""
    rows: Any = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # typeshed does not have it
    found: Counter[str] = Counter()
    for function, (_, _, own, _, _) in rows.items():
        if "select.epoll" in function[2] or "select.poll" in function[2]:
            continue  # it waits there
        found[room_of(function)] += own
    whole = found.total()
    return {name: seconds / whole for name, seconds in found.items()}


def script_us(client: redis.Redis) -> float:
    """µs that Redis has spent in EVALSHA so far."""
    stats: Any = client.info("commandstats")
    return float(stats.get("cmdstat_evalsha", {"usec": 0})["usec"])


async def run(url: str, jobs: int, limit: int | None, profiled: bool) -> dict[str, Any]:
    """No-op jobs (in a child process)."""
    app = flowq.App("where", url)
    add_probe(app)
    task: Any = app.task(name="noop", limit=limit, results=False)(noop)
    async with open_bench(app, url, CONCURRENCY) as bench:
        await bench.fill(task, jobs)
        before, profile = script_us(bench.client), cProfile.Profile()
        if profiled:
            profile.enable()
        took = (await bench.drain(task, jobs)).figures()
        profile.disable()
        took["script_us"] = (script_us(bench.client) - before) / jobs
    return {**took, "shares": shares(profile) if profiled else {}}


async def submit(url: str, way: str, seconds: float, profiled: bool) -> dict[str, Any]:
    """Jobs stored by so many callers (in a child process)."""
    app = flowq.App("where", url)
    task: Any = app.task(results=False)(noop)
    client = redis.Redis.from_url(url)
    stored = 0

    async def one() -> int:
        await task.enqueue()
        return 1

    async def bulk() -> int:
        return len(await app.enqueue_many([task.bind() for _ in range(BULK)]))

    calls: dict[str, tuple[Callable[[], Awaitable[int]], int]] = {
        "one by one": (one, 1),
        f"{TASKS} at once": (one, TASKS),
        f"bulk of {BULK}": (bulk, 1),
    }
    call, tasks = calls[way]
    async with app:
        await one()
        before, scripts = usage(client), script_us(client)
        profile = cProfile.Profile()
        if profiled:
            profile.enable()
        began, cpu = time.perf_counter(), time.process_time()

        async def caller() -> None:
            nonlocal stored
            while time.perf_counter() < began + seconds:
                more = await call()
                stored += more

        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(caller)
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        profile.disable()
        after = usage(client)
    found = {
        "per_second": stored / took,
        "client_us": cpu / stored * 1e6,
        "redis_us": (after.cpu_us - before.cpu_us) / stored,
        "script_us": (script_us(client) - scripts) / stored,
        "shares": shares(profile) if profiled else {},
    }
    client.flushall()
    client.close()
    return found


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question, on the first of the loops that are asked for."""
    backend = conditions.backends[0]
    figures = []
    with running_server(conditions) as server:
        cases: list[tuple[str, Any, dict[str, Any]]] = [
            ("no-op, unlimited", run, {"jobs": int(JOBS * conditions.seconds), "limit": None}),
            ("no-op, limit=50", run, {"jobs": int(JOBS * conditions.seconds), "limit": 50}),
            *(
                (f"enqueue, {way}", submit, {"way": way, "seconds": conditions.seconds})
                for way in ("one by one", f"{TASKS} at once", f"bulk of {BULK}")
            ),
        ]
        for name, function, arguments in cases:
            plain = [
                measured(function, backend, url=server.url, profiled=False, **arguments)
                for _ in range(conditions.runs)
            ]
            split = measured(function, backend, url=server.url, profiled=True, **arguments)["shares"]
            figures += _figures(backend, name, plain, split)
    return figures


def _figures(backend: str, name: str, plain: list[dict[str, float]], split: dict[str, float]) -> list[Figure]:
    def figure(what: str, samples: list[float], note: str = "") -> Figure:
        return Figure("where", backend, f"{name}: {what}", "µs/job", samples, note=note)

    client = percentile([one["client_us"] for one in plain], 50)
    found = [
        figure("from one end to the next", [1e6 / one["per_second"] for one in plain]),
        figure("worker's CPU" if name.startswith("no-op") else "producer's CPU", [one["client_us"] for one in plain]),
    ]  # fmt: skip
    found += [
        figure(f"· {room}", [share * client], f"{share:.0%} by cProfile")
        for room, share in sorted(split.items(), key=lambda pair: -pair[1])
        if share >= 0.01
    ]
    return [
        *found,
        figure("Redis's CPU", [one["redis_us"] for one in plain]),
        figure("· in scripts", [one["script_us"] for one in plain]),
    ]
