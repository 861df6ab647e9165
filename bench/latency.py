"""From ``enqueue`` to the body's first line, when somebody has time: how long, while a limited task is saturated beside it?

Four worker processes; all three tokens of a limited task are in use and its backlog is deep. Another process submits jobs of an
unlimited task one at a time, at uneven intervals. The clock starts before ``enqueue`` is called.
"""

from __future__ import annotations

import random
import time

import anyio

import flowq
from bench.child import measured
from bench.conditions import Conditions, Figure, Target, percentile
from bench.fleet import Fleet, fleet_of
from bench.server import Server, running_server

WORKERS = 4
TTL = 2.0
GAP = 0.025
"""Mean seconds between two submits."""
BODY = 0.3
"""Of the limited task beside it."""


async def send(url: str, app: str, count: int, gap: float, delay: float = 0.0) -> None:
    """Submit ``first_line`` so many times (in a child process: see ``measured``)."""
    producer = flowq.App(app, url)
    handle = producer.ref("first_line").options(delay=delay) if delay else producer.ref("first_line")
    async with producer:
        for number in range(count):
            await handle.enqueue(number, time.monotonic())
            await anyio.sleep(gap * random.uniform(0.5, 1.5))


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            with fleet_of(server, backend, ttl=TTL) as fleet:
                for _ in range(WORKERS):
                    fleet.start()
                fleet.warm_up()
                rounds = [sample(server, fleet, conditions) for _ in range(conditions.runs)]
            figures += quantiles(
                "latency",
                backend,
                rounds,
                {50: Target("at most", 5.0, "issue 4"), 99: Target("at most", 5.0, "issue 6 (d)")},
            )
    return figures


def sample(server: Server, fleet: Fleet, conditions: Conditions) -> list[float]:
    """Latencies in ms of one round; the limited task is at its limit from before the first to after the last."""
    count = int(50 * conditions.seconds)
    fleet.forget()
    lasts = count * GAP + 3.0
    fleet.submit("wait", [(n, BODY) for n in range(int(3 * lasts / BODY))])
    fleet.wait_for("start", 3, 10)
    measured(send, fleet.backend, url=server.url, app=fleet.app, count=count, gap=GAP)
    found = fleet.wait_for("first", count, 10)
    begun = len(fleet.wait_for("start", 3, 1))
    if begun >= int(3 * lasts / BODY):
        raise RuntimeError("the limited task ran out of jobs meanwhile: nothing was measured beside it")
    fleet.drop("wait")
    return [(mark.at - float(mark.rest[0])) * 1000 for mark in found]


def quantiles(
    question: str, backend: str, rounds: list[list[float]], targets: dict[int, Target]
) -> list[Figure]:
    """p50, p95 and p99 of each round."""
    return [
        Figure(
            question,
            backend,
            f"p{q}",
            "ms",
            [percentile(one, q) for one in rounds],
            targets.get(q),
            f"{len(rounds[0])} a run",
        )
        for q in (50, 95, 99)
    ]
