"""How late does a job with ``delay=1`` begin, on an idle fleet of two workers?

A job that is due in an hour is there before, so that whoever sleeps until the next due time sleeps long; each sooner one must wake
the fleet. Late is what the body's first line is beyond one second after the call of ``enqueue``, storing included.
"""

from __future__ import annotations

from bench.child import measured
from bench.conditions import Conditions, Figure, Target
from bench.fleet import fleet_of
from bench.latency import quantiles, send
from bench.server import running_server

COUNT = 100
GAP = 0.04
DELAY = 1.0
TARGETS = {99: Target("at most", 50.0, "CORRECTIONS 3.3")}


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            with fleet_of(server, backend) as fleet:
                fleet.start()
                fleet.start()
                fleet.submit("first_line", [(-1, 0.0)], delay=3600.0)
                rounds = []
                for _ in range(conditions.runs):
                    fleet.forget()
                    measured(send, backend, url=server.url, app=fleet.app, count=COUNT, gap=GAP, delay=DELAY)
                    found = fleet.wait_for("first", COUNT, 30)
                    rounds.append([(mark.at - float(mark.rest[0]) - DELAY) * 1000 for mark in found])
            figures += quantiles("lateness", backend, rounds, TARGETS)
    return figures
