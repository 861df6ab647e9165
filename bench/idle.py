"""What does a worker cost that has nothing to do: share of a core, requests on the wire?

Real processes at the default TTL, each the only worker of an app of its own, watched at the same time; requests are counted by a
proxy. ``flowq run`` counts with its supervisor.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

import attrs
import psutil  # type: ignore[import-untyped]  # it has no types

from bench.conditions import Conditions, Figure, Target
from bench.fleet import Fleet, fleet_of
from bench.server import Server, running_server
from bench.wire import Tap, Wire, tapped

LASTS = 10
"""Times ``seconds``."""
QUIET = 3.0
"""Seconds before the watching begins."""


@attrs.frozen
class Watched:
    """One idle worker with its counters."""

    backend: str
    kind: str
    process: psutil.Process
    tap: Tap

    def cpu(self) -> float:
        """Seconds so far, of the process and of what it has started."""
        return sum(sum(one.cpu_times()[:2]) for one in (self.process, *self.process.children(recursive=True)))


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    with running_server(conditions) as server, tapped(server.socket) as wire, ExitStack() as stack:
        watched = []
        for backend in conditions.backends:
            for n in range(conditions.runs):
                fleet = stack.enter_context(fleet_of(server, backend, app=f"idle-{backend}-{n}"))
                watched.append(_start(fleet, wire, "bare worker", ()))
            fleet = stack.enter_context(fleet_of(server, backend, app=f"run-{backend}"))
            command = (sys.executable, "-m", "flowq", "run", "bench.app:app", "--backend", backend)
            watched.append(_start(fleet, wire, "flowq run", command))
        time.sleep(QUIET)
        return _watch(watched, server, LASTS * conditions.seconds, conditions)


def _start(fleet: Fleet, wire: Wire, kind: str, command: tuple[str, ...]) -> Watched:
    tap = wire.tap()
    process = fleet.start(command, url=tap.url)
    return Watched(fleet.backend, kind, psutil.Process(process.pid), tap)


def _watch(watched: list[Watched], server: Server, seconds: float, conditions: Conditions) -> list[Figure]:
    cpu = [one.cpu() for one in watched]
    requests = [one.tap.requests.copy() for one in watched]
    redis_process: Any = psutil.Process(server.process.pid)
    redis_cpu = sum(redis_process.cpu_times()[:2])
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    redis_cpu = sum(redis_process.cpu_times()[:2]) - redis_cpu
    figures = []
    for backend in conditions.backends:
        for kind in ("bare worker", "flowq run"):
            mine = [i for i, one in enumerate(watched) if (one.backend, one.kind) == (backend, kind)]
            shares = [(watched[i].cpu() - cpu[i]) / took * 100 for i in mine]
            figures.append(
                Figure(
                    "idle", backend, f"{kind}: CPU", "% of a core", shares, Target("at most", 1.0, "issue 4")
                )
            )
            rates, names = [], ""
            for i in mine:
                new = watched[i].tap.requests - requests[i]
                rates.append(new.total() / took)
                names = ", ".join(f"{name} {n / took:.2g}" for name, n in new.most_common())
            target = Target("at most", 5.0, "issue 4")
            figures.append(
                Figure("idle", backend, f"{kind}: requests on the wire", "/s", rates, target, names)
            )
    share = redis_cpu / took * 100 / len(watched)
    figures.append(
        Figure("idle", "all", "Redis, for each idle worker", "% of a core", [share], note="through the proxy")
    )
    return figures
