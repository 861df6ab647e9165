"""Crash points: each life of a job, with the link cut before and after the k-th request of a worker, for every k.

A life is a plan in which the worker of slot 0 does one thing for a job: claims it, settles it, and so on, with another worker
there to take over. It is played once to count the victim's requests, and then once for each request, side and blow.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import msgspec

from .gate import Point
from .history import Accepted, Crashed, Ended, Outcome, Started
from .plan import CallFault, Cancel, Crash, Cut, Drain, Op, Plan, Server, Start, Submit
from .run import Run, simulate

VICTIM = "w0.1"
BLOWS = ("drop_request", "drop_reply", "crash_before", "crash_after", "cut_before", "cut_after")
"""A connection that breaks and is back at once, a killed worker, and a worker that is away for longer than its lease."""
TTL = 4.0
AWAY = 6.0
"""Seconds."""

LIVES: dict[str, tuple[list[Op], float]] = {
    "claim and start": ([Submit(0.2, "pair", 2, 0.5), Submit(0.0, "free", 2, 0.5, "busy"), Start(0.1, 1)], 1.0),
    "settle": ([Submit(0.2, "one", 3, 0.1), Submit(0.0, "free", 2, 0.0), Submit(0.0, "sync", 1, 0.0), Start(0.5, 1)], 0.5),
    "retry": ([Submit(0.2, "free", 1, 0.1, "fail"), Submit(0.0, "one", 1, 0.1, "fail"), Start(0.2, 1)], 2.0),
    "delay": ([Submit(0.2, "pair", 2, 0.2, "ok", 1.0), Start(0.1, 1)], 1.5),
    "adopt": ([Start(0.0, 1), Submit(0.2, "pair", 1, 2.0), Submit(0.0, "free", 1, 2.0), Start(0.2, 0), Crash(0.3, 1), Start(4.6, 2)], 1.5),
    "renew": ([Submit(0.2, "pair", 2, 4.0), Submit(0.0, "free", 1, 4.0), Start(0.1, 1)], 3.0),
    "rejoin": ([Submit(0.2, "free", 1, 6.0), Submit(0.0, "one", 1, 4.0, "slow"), Cut(0.5, 0, 3.5), Start(0.5, 1)], 4.5),
    "confirm": ([Submit(0.2, "pair", 1, 1.5), Submit(0.0, "free", 1, 1.5), Server(0.5, "forget"), Start(0.0, 1)], 2.0),
    "cancel": ([Submit(0.2, "pair", 1, 4.0, "slow"), Submit(0.0, "free", 1, 1.0), Cancel(0.3, 0), Start(0.1, 1)], 1.5),
    "hand back": ([Submit(0.2, "pair", 2, 4.0, "slow"), Submit(0.0, "free", 1, 4.0), Start(0.1, 1), Drain(0.3, 0, 0.2)], 1.5),
    "hand back late": ([Submit(0.2, "free", 2, 1.0), Cut(0.5, 0, 6.0), Start(0.0, 1), Drain(4.0, 0, 0.1)], 3.0),
}  # fmt: skip
"""What happens, and seconds until faults end."""

TOURS: dict[str, tuple[list[Op], float]] = {
    **LIVES,
    "share": ([Start(0.0, 1), Submit(0.2, "pair", 20, 0.2), Submit(0.0, "one", 3, 0.1)], 3.0),
    "deaf": ([Submit(0.2, "free", 1, 1.0, "deaf"), Start(0.0, 1), Drain(0.3, 0, 0.1)], 7.0),
    "outage": ([Submit(0.2, "free", 2, 1.0), Start(0.0, 1), Submit(0.3, "pair", 2, 0.3)], 3.0),
    "start without a server": ([Submit(0.2, "pair", 1, 0.5), Start(1.5, 1)], 1.5),
    "late outcome": ([Submit(0.2, "free", 2, 2.0), Cut(0.5, 0, 4.5), Start(0.0, 1)], 6.0),
    "late leaving": ([Submit(0.2, "pair", 2, 8.0, "slow"), Start(0.1, 1), Cut(0.4, 0, 2.65)], 4.0),
}
"""Lives in which workers wait wherever they can, for being killed there."""
TOUR_FAULTS = {
    "outage": [CallFault(0, "exchange", number, "outage", 0.5) for number in (2, 3, 5)],
    "start without a server": [CallFault(0, "join", 1, "outage", 1.0)],
}


@attrs.frozen
class CrashPoint:
    life: str
    call: str
    number: int
    blow: str

    @property
    def plan(self) -> Plan:
        fault = CallFault(0, self.call, self.number, self.blow, AWAY)  # type: ignore[arg-type]
        return msgspec.structs.replace(plan_of(self.life), faults=[fault])


def plan_of(life: str) -> Plan:
    """The life without any fault but its own."""
    ops, rest = TOURS[life]
    comes_later = any(isinstance(op, Start) and op.slot == 0 for op in ops)
    return Plan(
        seed=1,
        ttl=TTL,
        workers=0 if comes_later else 1,
        concurrency=4,
        ops=ops,
        rest=rest + 0.5,
        faults=TOUR_FAULTS.get(life, []),
    )


def crash_points(life: str) -> Iterator[CrashPoint]:
    """Every request that the victim makes in this life, each with every blow."""
    asked = simulate(plan_of(life)).asked[VICTIM]
    for call, count in sorted(asked.items()):
        for number in range(1, count + 1):
            for blow in BLOWS:
                yield CrashPoint(life, call, number, blow)


def kills() -> tuple[list[tuple[Plan, set[Point]]], set[Point]]:
    """Plans that kill the victim where it waits: at its first and last visit of each await point in the first and last tour that has it.

    Returns:
        The plans, each with the points at which its victim waits when it is killed; and all points that were visited.
    """
    visits: dict[Point, list[tuple[str, int, int]]] = {}
    for tour in TOURS:
        for (worker, point), (first, last) in simulate(plan_of(tour)).gate.visits.items():
            if worker == VICTIM:
                visits.setdefault(point, []).append((tour, first, last))
    found: dict[tuple[str, int], set[Point]] = {}
    for point, where in visits.items():
        tour, first, last = where[0]
        for key in ((tour, first), (tour, last), (where[-1][0], where[-1][2])):
            found.setdefault(key, set()).add(point)
    plans = [
        (msgspec.structs.replace(plan_of(tour), kills={VICTIM: step}), points)
        for (tour, step), points in found.items()
    ]
    return plans, set(visits)


def recoveries(run: Run) -> list[float]:
    """Seconds from a worker's crash to the next start of each job that was open then and ran nowhere else."""
    found: list[float] = []
    open_: set[str] = set()
    running: dict[int, Started] = {}
    waiting: dict[str, float] = {}
    for event in run.history.events:
        match event:
            case Accepted():
                open_.add(event.job)
            case Started():
                if event.job in waiting:
                    found.append(event.at - waiting.pop(event.job))
                running[event.body] = event
            case Ended():
                running.pop(event.body, None)
            case Outcome():
                open_.discard(event.job)
                waiting.pop(event.job, None)
            case Crashed():
                running = {body: one for body, one in running.items() if one.worker != event.worker}
                elsewhere = {one.job for one in running.values()}
                waiting |= dict.fromkeys(open_ - elsewhere, event.at)
            case _:
                pass
    return found
