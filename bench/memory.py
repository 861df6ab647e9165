"""What does a queued job cost Redis in memory, and what does a backlog cost a worker?

No-op jobs without arguments, and with an argument of 200 bytes, in bulk, with nobody to serve them: growth of ``used_memory`` (after the allocator has been asked to
give back what it holds) by the job, beside the length of the envelope as it lies in the stream. A worker's resident memory is read
while it is idle with no backlog, and with 100,000 jobs of another task in Redis.
"""

from __future__ import annotations

import sys
from typing import Any

import psutil  # type: ignore[import-untyped]  # it has no types
import redis

import flowq
from bench.conditions import Conditions, Figure, Target
from bench.fleet import fleet_of
from bench.server import Server, running_server
from flowq.backends.redis.keys import Keys, app_prefix

JOBS = 100_000
CHUNK = 5000
SIZES = {"no arguments": 0, "200 bytes": 200}
SETTLES = 3.0
"""Seconds after which a worker's memory is read."""


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for name, size in SIZES.items():
            figures += _queued(server, name, size, conditions.runs)
        for backend in conditions.backends:
            empty, full = [], []
            for _ in range(conditions.runs):
                empty.append(_resident(server, backend, 0))
                full.append(_resident(server, backend, JOBS))
            figures.append(Figure("memory", backend, "worker, no backlog", "MiB resident", empty))
            figures.append(Figure("memory", backend, f"worker, {JOBS:,} jobs queued", "MiB resident", full))
    return figures


def _queued(server: Server, name: str, size: int, runs: int) -> list[Figure]:
    costs, lengths, over = [], [], []
    for _ in range(runs):
        cost, length = queued(server, size)
        costs.append(cost)
        lengths.append(length)
        over.append(cost - 1.3 * length)
    target = Target("at most", 30, "issue 6 (f): 1.3 × the envelope + 30 bytes")
    return [
        Figure("memory", "all", f"queued job, {name}: Redis memory", "bytes", costs),
        Figure("memory", "all", f"queued job, {name}: envelope", "bytes", lengths),
        Figure("memory", "all", f"queued job, {name}: beyond 1.3 × the envelope", "bytes", over, target),
    ]


def queued(server: Server, size: int) -> tuple[float, float]:
    """Bytes of Redis's memory by the job, and bytes of its envelope."""
    app = flowq.App("memory", url=server.url)

    @app.task
    async def job(text: str = "") -> None: ...

    with server.client() as client:
        client.flushall()
        call = job.bind("x" * size) if size else job.bind()
        with app.sync() as producer:
            producer.enqueue_many([call])
            before = _used(client)
            for _ in range(0, JOBS, CHUNK):
                producer.enqueue_many([call] * CHUNK)
        after = _used(client)
        rows: Any = client.xrange(Keys(app_prefix("memory")).stream("job"), count=1)
        length = len(rows[0][1]["d"].encode())
        client.flushall()
    return (after - before) / JOBS, length


def _used(client: redis.Redis) -> int:
    client.memory_purge()
    facts: Any = client.info("memory")
    return int(facts["used_memory"])


def _resident(server: Server, backend: str, backlog: int) -> float:
    with fleet_of(server, backend, app=f"memory-{backend}") as fleet:
        fleet.submit("unserved", [()] * backlog)
        process = fleet.start((sys.executable, "-m", "bench.worker", backend, "100"))
        psutil.wait_procs([psutil.Process(process.pid)], timeout=SETTLES)
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode}")
        return float(psutil.Process(process.pid).memory_info().rss) / 2**20
