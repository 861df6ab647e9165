"""From SIGKILL of a worker to the start of its job in another one: how long?

A limited job that never ends; its worker is killed at a random phase of its renewals, the other one takes over, a third one is started,
and so on.
"""

from __future__ import annotations

import os
import random
import signal
import time

from bench.conditions import Conditions, Figure, Target
from bench.fleet import STEADY, Fleet, fleet_of
from bench.server import Server, running_server

KILLS = 5
TTLS = (2.0, 10.0)
SLACK = 1.0


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            for ttl in TTLS:
                samples = kills(server, backend, ttl)
                target = Target("at most", ttl + SLACK, "issue 4", "max")
                figures.append(
                    Figure(
                        "recovery",
                        backend,
                        f"SIGKILL → started elsewhere, TTL {ttl:g} s",
                        "s",
                        samples,
                        target,
                    )
                )
    return figures


def kills(server: Server, backend: str, ttl: float) -> list[float]:
    """Seconds, for each kill."""
    with fleet_of(server, backend, ttl=ttl) as fleet:
        fleet.start()
        fleet.submit("hold", [(0,)])
        fleet.wait_for("hold", 1, ttl + STEADY)
        return [kill(fleet, n + 1) for n in range(KILLS)]


def kill(fleet: Fleet, starts: int) -> float:
    """Kill who runs the job, which has started so often; return the seconds until somebody else does."""
    fleet.start()
    time.sleep(random.uniform(0, fleet.ttl / 4))
    victim = fleet.wait_for("hold", starts, 1)[-1].pid
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    started = fleet.wait_for("hold", starts + 1, fleet.ttl + 30)[-1]
    if started.pid == victim:
        raise RuntimeError("a dead process started a job")
    return started.at - killed
