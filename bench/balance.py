"""Does a limited task use its tokens, do the workers share the work, and is nobody woken for nothing?

Four worker processes, limit 3. First the seed's story: 12 jobs; then 60 jobs of 0.3 s. Claims are counted by proxies, one a worker: a
*futile* one had room and got nothing. Then 200 jobs of 20 ms of CPU on one worker, and on two.
"""

from __future__ import annotations

from collections import Counter

from bench import marks
from bench.conditions import Conditions, Figure, Target
from bench.fleet import Fleet, fleet_of
from bench.server import Server, running_server
from bench.wire import Cause, Tap, tapped

WORKERS = 4
LIMIT = 3
TTL = 2.0
BODY = 0.3
STORY, MANY = 12, 60
COMPUTE, COMPUTE_BODY = 200, 0.020

Sample = dict[str, float]


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures: list[Figure] = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            samples = [share_tokens(server, backend) for _ in range(conditions.runs)]
            ratios = [share_cores(server, backend) for _ in range(conditions.runs)]
            for name, unit, target in (
                ("12 jobs: peak", "bodies at once", Target("at most", LIMIT, "issue 4", "max")),
                (
                    "12 jobs: effective concurrency",
                    "bodies",
                    Target("at least", 2.5, "issue 4: 3, not 1", "min"),
                ),
                ("60 jobs: peak", "bodies at once", Target("at most", LIMIT, "issue 4", "max")),
                ("60 jobs: effective concurrency", "bodies", None),
                ("60 jobs: workers that ran bodies", "of 4", Target("at least", 3, "CORRECTIONS 1.1", "min")),
                (
                    "60 jobs: largest share of a worker",
                    "of the bodies",
                    Target("at most", 0.5, "CORRECTIONS 1.1", "max"),
                ),
                ("60 jobs: futile claims", "per job", Target("at most", 0.2, "CORRECTIONS 1.1")),
                ("60 jobs: futile claims after a ring", "per job", None),
                ("60 jobs: futile claims of the safety poll", "per job", None),
            ):
                figures.append(Figure("balance", backend, name, unit, [one[name] for one in samples], target))
            target = Target("at least", 1.6, "CORRECTIONS 1.1")
            figures.append(
                Figure(
                    "balance",
                    backend,
                    "CPU-bound jobs: 2 workers / 1 worker",
                    "ratio of rates",
                    ratios,
                    target,
                )
            )
    return figures


def share_tokens(server: Server, backend: str) -> Sample:
    """One run of the story and of the many."""
    with tapped(server.socket) as wire, fleet_of(server, backend, ttl=TTL) as fleet:
        taps = [wire.tap() for _ in range(WORKERS)]
        for tap in taps:
            fleet.start(url=tap.url)
        fleet.warm_up()
        story = _run(fleet, STORY)
        many = _run(fleet, MANY)
        since, until = many[0].start, many[-1].end
        shares = Counter(body.pid for body in many)
        return {
            "12 jobs: peak": marks.peak(story),
            "12 jobs: effective concurrency": marks.concurrency(story),
            "60 jobs: peak": marks.peak(many),
            "60 jobs: effective concurrency": marks.concurrency(many),
            "60 jobs: workers that ran bodies": len(shares),
            "60 jobs: largest share of a worker": max(shares.values()) / MANY,
            "60 jobs: futile claims": _futile(taps, since, until),
            "60 jobs: futile claims after a ring": _futile(taps, since, until, "ring"),
            "60 jobs: futile claims of the safety poll": _futile(taps, since, until, "poll"),
        }


def _futile(taps: list[Tap], since: float, until: float, *causes: Cause) -> float:
    return sum(tap.futile(since, until, *causes) for tap in taps) / MANY


def _run(fleet: Fleet, jobs: int) -> list[marks.Body]:
    fleet.forget()
    fleet.submit("wait", [(n, BODY) for n in range(jobs)])
    fleet.wait_for("end", jobs, 10 * jobs * BODY)
    bodies = marks.bodies(fleet.marks)
    if sorted(body.number for body in bodies) != list(range(jobs)):
        raise RuntimeError(f"not each of the {jobs} jobs ran once: {bodies}")
    return bodies


def share_cores(server: Server, backend: str) -> float:
    """How much faster two workers run jobs that compute than one."""
    with fleet_of(server, backend, ttl=TTL) as fleet:
        rates = []
        for _ in range(2):
            fleet.start()
            fleet.forget()
            fleet.submit("compute", [(n, COMPUTE_BODY) for n in range(COMPUTE)])
            fleet.wait_for("end", COMPUTE, 120)
            rates.append(COMPUTE / marks.span(marks.bodies(fleet.marks)))
        return rates[1] / rates[0]
