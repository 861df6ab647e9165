"""Which share of the ideal does a limited task reach when more workers than tokens want it?

Real processes. Limit 3 with eight workers and bodies of 50 ms: bodies at once, on average, against 3. Limit 1 with three workers and
bodies of 10 ms: jobs a second, of 100 at most. Every end hands a token to whoever asks next, so what is lost is the time between
one body's end and the next one's start.
"""

from __future__ import annotations

import attrs

from bench import marks
from bench.conditions import Conditions, Figure, Target
from bench.fleet import Fleet, fleet_of
from bench.server import running_server

TTL = 2.0


@attrs.frozen
class Case:
    """One task of ``bench.app`` on so many workers."""

    name: str
    task: str
    limit: int
    workers: int
    body: float
    """Seconds."""
    target: Target


CASES = (
    Case(
        "limit 3, 8 workers, 50 ms: share of 3 bodies at once", "wait", 3, 8, 0.050,
        Target("at least", 0.97, "issue 6 (e)"),
    ),
    Case(
        "limit 1, 3 workers, 10 ms: share of 100 jobs/s", "alone", 1, 3, 0.010,
        Target("at least", 0.85, "issue 6 (e): 85 jobs/s"),
    ),
)  # fmt: skip


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            for case in CASES:
                with fleet_of(server, backend, ttl=TTL) as fleet:
                    for _ in range(case.workers):
                        fleet.start()
                    fleet.warm_up()
                    shares = [share(fleet, case, conditions.seconds) for _ in range(conditions.runs)]
                figures.append(Figure("limits", backend, case.name, "of the ideal", shares, case.target))
    return figures


def share(fleet: Fleet, case: Case, seconds: float) -> float:
    """Run as many jobs as the ideal does in so many seconds; how much of them was done in the time that it took.

    The ideal has ``limit`` bodies of exactly ``body`` seconds at once, from the first start to the last end. That a body sleeps a
    little longer than it was asked to is counted against the queue.
    """
    jobs = case.limit * max(10, round(seconds / case.body))
    fleet.forget()
    fleet.submit(case.task, [(n, case.body) for n in range(jobs)])
    fleet.wait_for("end", jobs, 30 + 10 * jobs * case.body)
    bodies = marks.bodies(fleet.marks)
    if (peak := marks.peak(bodies)) > case.limit:
        raise RuntimeError(f"{case.name}: {peak} bodies at once")
    return jobs * case.body / case.limit / marks.span(bodies)
