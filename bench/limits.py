"""Which share of the ideal does a limited task reach when more workers than tokens want it?

Real processes. Limit 3 with eight workers and bodies of 50 ms, against three tasks of a plain nursery that run the same bodies back
to back (which sleep a little longer than they are asked to). Limit 1 with three workers and bodies of 10 ms, in jobs a second, of 100 at most. Every end hands a token to whoever asks next, so what is lost is
the time between one body's end and the next one's start.
"""

from __future__ import annotations

import attrs

from bench import marks
from bench.child import measured
from bench.conditions import Conditions, Figure, Target
from bench.fleet import Fleet, fleet_of
from bench.server import running_server
from bench.waiting import plain

TTL = 2.0


@attrs.frozen
class Case:
    """One task of ``bench.app`` on so many workers."""

    name: str
    unit: str
    task: str
    limit: int
    workers: int
    body: float
    """Seconds."""
    target: Target


CASES = (
    Case(
        "limit 3, 8 workers, 50 ms", "of a plain nursery", "wait", 3, 8, 0.050, Target("at least", 0.97, "issue 6 (e)")
    ),
    Case("limit 1, 3 workers, 10 ms", "jobs/s", "alone", 1, 3, 0.010, Target("at least", 85, "issue 6 (e)")),
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
                    rates = [rate(fleet, case, conditions.seconds) for _ in range(conditions.runs)]
                if case.unit != "jobs/s":
                    rates = [one / _plain(backend, case, conditions.seconds) for one in rates]
                figures.append(Figure("limits", backend, case.name, case.unit, rates, case.target))
    return figures


def _jobs(case: Case, seconds: float) -> int:
    return case.limit * max(10, round(seconds / case.body))


def _plain(backend: str, case: Case, seconds: float) -> float:
    """Bodies a second in a bare nursery of as many tasks as the limit."""
    found: list[float] = measured(
        plain, backend, concurrency=case.limit, body=case.body, jobs=_jobs(case, seconds)
    )
    return found[0]


def rate(fleet: Fleet, case: Case, seconds: float) -> float:
    """Jobs a second, from the first start to the last end of so many as take about ``seconds``."""
    jobs = _jobs(case, seconds)
    fleet.forget()
    fleet.submit(case.task, [(n, case.body) for n in range(jobs)])
    fleet.wait_for("end", jobs, 30 + 10 * jobs * case.body)
    bodies = marks.bodies(fleet.marks)
    if (peak := marks.peak(bodies)) > case.limit:
        raise RuntimeError(f"{case.name}: {peak} bodies at once")
    return jobs / marks.span(bodies)
