"""Where do a job's microseconds go, in the worker and in Redis?

The worker's time is what a run without a profiler takes; how it is shared is cProfile's word, which makes calls dearer than they are: read
the shares as an order, not as figures. Redis's time is its CPU time by the job, and of that the part inside of scripts, by ``INFO
commandstats``. No-op jobs unlimited and with ``limit=50``, enqueue one by one, a hundred at once, in bulk.
"""

from __future__ import annotations

import pstats
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from bench.child import measured
from bench.conditions import Conditions, Figure, percentile
from bench.enqueue import WAYS, submit
from bench.server import running_server
from bench.throughput import KINDS, RATE, run_noops

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


def shares(path: Path) -> dict[str, float]:
    """Each room's part of the profiled time, waiting left out."""
    rows: Any = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]  # typeshed does not have it
    found: Counter[str] = Counter()
    for function, (_, _, own, _, _) in rows.items():
        if "select.epoll" in function[2] or "select.poll" in function[2]:
            continue  # it waits there
        found[room_of(function)] += own
    whole = found.total()
    return {name: seconds / whole for name, seconds in found.items()}


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question, on the first of the loops that are asked for."""
    backend = conditions.backends[0]
    jobs = int(RATE * conditions.seconds)
    figures = []
    with running_server(conditions) as server, tempfile.TemporaryDirectory(prefix="fq-where-") as folder:
        file = Path(folder) / "profile"
        for kind, limit in KINDS.items():
            job = partial(
                measured, run_noops, backend, url=server.url, server=server.url, jobs=jobs, limit=limit
            )
            plain = [job()[0] for _ in range(conditions.runs)]
            job(profile=str(file))
            figures += _figures(backend, f"no-op, {kind}", plain, shares(file))
        call = partial(measured, submit, backend, url=server.url, seconds=conditions.seconds)
        rows = [call() for _ in range(conditions.runs)]
        for way in WAYS:
            call(only=way, profile=str(file))
            figures += _figures(backend, f"enqueue, {way}", [row[way] for row in rows], shares(file))
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
