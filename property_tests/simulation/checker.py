"""Is this history one that flowq promises? Knows nothing of flowq but its promises and the lease's three times.

A fault excuses only what it must: a frozen worker's limited bodies, from the end of their lease until it has run again; jobs that
were accepted, or ended, after the moment to which the server fell back; a delay, when the server's clock leapt.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator

import attrs

from .history import (
    Accepted,
    CallFailed,
    ClockStepped,
    Crashed,
    CutOff,
    Died,
    Ended,
    Event,
    Finished,
    Frozen,
    LimitSet,
    Outcome,
    Refused,
    ServerLost,
    Started,
    Thawed,
    Vouched,
)

TICK = 0.01
"""Seconds by which a deadline may be late: a look of the watchdog, and a round trip."""
FLIGHT = 6.0
"""Seconds for which an answer may be under way, and a delivery wait for its start."""

RESEND_WINDOW = 100.0
"""Seconds of the server's clock for which it surely knows a submit again."""


@attrs.frozen
class Violation:
    """A promise that was not kept."""

    promise: str
    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.at:.3f}: {self.what}"


@attrs.frozen
class Rules:
    """The numbers of the promises, in seconds."""

    ttl: float
    unwind: float
    """What the slowest body needs to leave when it is cancelled."""

    @property
    def trusted(self) -> float:
        """How long a worker may run limited bodies after the server last vouched for it."""
        return 0.65 * self.ttl

    @property
    def excused_after(self) -> float:
        """When the server may give a silent worker's jobs away: one TTL, of which a leap of its clock may take a sixth."""
        return self.ttl * 5 / 6


@attrs.define(eq=False)
class Body:
    start: Started
    end: float = math.inf
    how: str = "runs"


class Record:
    """A history, sorted by what it is about."""

    def __init__(self, events: list[Event], rules: Rules) -> None:
        self.events = events
        self.rules = rules
        self.bodies: dict[int, Body] = {}
        self.by_job: dict[str, list[Body]] = defaultdict(list)
        self.vouched: dict[str, list[float]] = defaultdict(list)
        self.freezes: dict[str, list[list[float]]] = defaultdict(list)
        self.lost = [e for e in events if isinstance(e, ServerLost)]
        self.stepped = [e for e in events if isinstance(e, ClockStepped)]
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Started():
                body = self.bodies[event.body] = Body(event)
                self.by_job[event.job].append(body)
            case Ended():
                if event.body in self.bodies:
                    body = self.bodies[event.body]
                    body.end, body.how = event.at, event.how
            case Crashed():
                for body in self.bodies.values():
                    if body.start.worker == event.worker and body.end == math.inf:
                        body.end, body.how = event.at, "killed"
            case Vouched():
                self.vouched[event.worker].append(event.at)
            case Frozen():
                self.freezes[event.worker].append([event.at, math.inf])
            case Thawed():
                self.freezes[event.worker][-1][1] = event.at
            case _:
                pass

    def frozen(self, worker: str, start: float, end: float) -> float:
        """Seconds of this span in which the worker's loop stood still."""
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self.freezes[worker])

    def stands_still(self, worker: str, at: float) -> bool:
        """Is it frozen then, or has it only just run on?"""
        grace = self.rules.unwind + TICK
        return any(a <= at <= b + grace for a, b in self.freezes[worker])

    def last_vouched(self, worker: str, at: float) -> float:
        times = self.vouched[worker]
        index = bisect.bisect_right(times, at)
        return times[index - 1] if index else -math.inf

    def fell_back_over(self, moment: float, until: float) -> bool:
        """Did the server lose, before ``until``, what it had been told at this moment?"""
        return any(
            e.since is not None and e.since <= moment <= e.at + FLIGHT and e.at <= until for e in self.lost
        )

    def leapt(self, until: float, more_than: float) -> bool:
        """Did the server's clock leap forward before this moment, by more than so many seconds?"""
        return any(step.seconds > more_than and step.at <= until for step in self.stepped)


def check(events: list[Event], rules: Rules) -> list[Violation]:
    """All violations, in the order of their times."""
    record = Record(events, rules)
    found = [violation for rule in RULES for violation in rule(record)]
    return sorted(found, key=lambda violation: violation.at)


def _submits(record: Record) -> Iterator[Violation]:
    """A submit is one job or, if refused, none."""
    jobs: dict[str, Accepted | Started] = {}
    for event in record.events:
        if isinstance(event, Accepted | Started):
            first = jobs.setdefault(event.token, event)
            forgot = record.fell_back_over(first.at, math.inf) or record.leapt(event.at, RESEND_WINDOW)
            if first.job != event.job and not forgot:
                yield Violation("one job a submit", event.at, f"{event.token} is {first.job} and {event.job}")
    for event in record.events:
        if isinstance(event, Refused) and event.token in jobs:
            yield Violation(
                "one job a submit", event.at, f"{event.token} was refused, and is {jobs[event.token].job}"
            )


def _outcomes(record: Record) -> Iterator[Violation]:
    """A job has one outcome: that of a body which has ended, and of the newest delivery."""
    first: dict[str, Outcome] = {}
    started: dict[str, list[Started]] = defaultdict(list)
    ended: dict[int, str] = {}
    ends: dict[int, str] = {}
    for event in record.events:
        match event:
            case Started():
                started[event.job].append(event)
                ends[event.body] = "runs"
            case Ended():
                ends[event.body] = event.how
            case Outcome():
                ended = {one.fence: ends[one.body] for one in started[event.job]}
                yield from _outcome(record, event, first.get(event.job), started[event.job], ended)
                first[event.job] = event
            case _:
                pass


def _outcome(
    record: Record, event: Outcome, before: Outcome | None, started: list[Started], ended: dict[int, str]
) -> Iterator[Violation]:
    name = f"{event.job}: {event.kind} {event.why}".rstrip()
    if before is not None and not record.fell_back_over(before.at, event.at):
        yield Violation("one outcome", event.at, f"{name}, after {before.kind} at {before.at:.3f}")
    if event.fence is None:
        return
    how = ended.get(event.fence, "never began")
    good = ("ok",) if event.kind == "succeeded" else ("raised", "cancelled", "never began")
    if how not in good and not (event.kind == "cancelled" and how == "ok"):
        yield Violation("an outcome is of a body that ended", event.at, f"{name}, but that body {how}")
    newer = [
        one for one in started if one.fence > event.fence and not record.fell_back_over(one.at, event.at)
    ]
    if newer:
        yield Violation(
            "an outcome is of the newest delivery", event.at,
            f"{name} of {event.fence}, but {newer[0].fence} had begun at {newer[0].at:.3f} on {newer[0].worker}",
        )  # fmt: skip


def _limits(record: Record) -> Iterator[Violation]:
    """Never more bodies at once than the limit; as lowered, once those that were admitted before have left."""
    limits: dict[str, list[LimitSet]] = defaultdict(list)
    open_: dict[str, list[Body]] = defaultdict(list)
    for event in record.events:
        if isinstance(event, LimitSet):
            limits[event.lane].append(event)
        if not isinstance(event, Started) or event.lane not in limits:
            continue
        at = event.at
        running = [
            body for body in open_[event.lane] if body.end > at or (body.end == at and body.how == "runs")
        ]
        running = [body for body in running if not _is_past_lease(record, body, at)]
        running.append(record.bodies[event.body])
        open_[event.lane] = [body for body in open_[event.lane] if body.end > at] + [
            record.bodies[event.body]
        ]
        allowed = _allowed(limits[event.lane], min(body.start.at for body in running) - FLIGHT)
        if allowed is not None and len(running) > allowed:
            who = ", ".join(
                f"{body.start.token} on {body.start.worker} since {body.start.at:.3f}" for body in running
            )
            yield Violation("the limit", at, f"{len(running)} of {event.lane}, limit {allowed}: {who}")


def _is_past_lease(record: Record, body: Body, at: float) -> bool:
    """Is this a body of a worker that stands still, and whose lease has ended meanwhile?"""
    worker = body.start.worker
    over = at >= record.last_vouched(worker, at) + record.rules.excused_after
    return over and record.stands_still(worker, at)


def _allowed(limits: list[LimitSet], since: float) -> int | None:
    """The largest limit in force at any time since then."""
    before = [one for one in limits if one.at <= since][-1:]
    found = [one.limit for one in [*(before or limits[:1]), *(one for one in limits if one.at > since)]]
    return None if None in found else max(limit for limit in found if limit is not None)


def _lease(record: Record) -> Iterator[Violation]:
    """A limited body leaves when its worker has not been vouched for in time; a frozen one, when it runs again."""
    limited = {event.lane for event in record.events if isinstance(event, LimitSet)}
    spare = record.rules.unwind + TICK
    for body in record.bodies.values():
        start, end = body.start.at, body.end
        if body.start.lane not in limited or end <= start:
            continue
        times = [t for t in record.vouched[body.start.worker] if start - record.rules.ttl <= t <= end]
        for last, following in zip(times, [*times[1:], math.inf], strict=True):
            late, until = max(start, last + record.rules.trusted + spare), min(end, following)
            moments = [
                late + TICK,
                until - TICK,
                *(b + spare + TICK for _, b in record.freezes[body.start.worker]),
            ]
            if any(late < m < until and not record.stands_still(body.start.worker, m) for m in moments):
                yield Violation(
                    "the lease's deadline", late,
                    f"{body.start.token} on {body.start.worker} runs until {end:.3f}; last vouched for at {last:.3f}",
                )  # fmt: skip
                break


def _timeouts(record: Record) -> Iterator[Violation]:
    """A body is cancelled when its time is over."""
    for body in record.bodies.values():
        start = body.start
        until = min(body.end, record.events[-1].at)
        longest = start.timeout + record.frozen(start.worker, start.at, until) + record.rules.unwind + TICK
        if until - start.at > longest:
            yield Violation(
                "the timeout",
                start.at + longest,
                f"{start.token} on {start.worker} ran {until - start.at:.3f} s",
            )


def _due(record: Record) -> Iterator[Violation]:
    """A delayed job starts no sooner than it is due."""
    due = {event.job: event.due for event in record.events if isinstance(event, Accepted)}
    for job, bodies in record.by_job.items():
        first = bodies[0].start
        # a server that fell back may give an id out again
        excused = record.leapt(first.at, 0.0) or record.fell_back_over(first.at, math.inf)
        if first.at < due.get(job, 0.0) - TICK and not excused:
            yield Violation("not before it is due", first.at, f"{first.token} is due at {due[job]:.3f}")


def _losses(record: Record) -> Iterator[Violation]:
    """Every accepted job has an outcome in the end, and nothing is left."""
    done = {event.job for event in record.events if isinstance(event, Outcome)}
    last = record.events[-1]
    for event in record.events:
        if not isinstance(event, Accepted) or event.job in done:
            continue
        if not record.fell_back_over(event.at, math.inf):
            yield Violation(
                "no job is lost", last.at, f"{event.token} ({event.job}), accepted at {event.at:.3f}"
            )
    if not isinstance(last, Finished):
        yield Violation("the work is done in the end", last.at, "the simulation did not come to its end")
        return
    if last.stuck:
        yield Violation("the work is done in the end", last.at, last.stuck)
    elif last.left:
        yield Violation("the work is done in the end", last.at, f"left: {last.left}")
    if last.members and not any(_may_leave_a_member(event) for event in record.events):
        yield Violation(
            "who leaves is no member", last.at, f"{last.members} members are left, and nobody crashed"
        )


def _may_leave_a_member(event: Event) -> bool:
    """A join whose reply was lost leaves one that nobody knows of, until its lease ends; as a crash, or a backup, does."""
    if isinstance(event, CallFailed):
        return event.call in ("join", "leave")
    fell_back = isinstance(event, ServerLost) and event.since is not None
    return fell_back or isinstance(event, Crashed | CutOff)


def _crash_letters(record: Record) -> Iterator[Violation]:
    """Who is buried for taking workers down has been in the hands of three that went down."""
    downs = [event.at for event in record.events if isinstance(event, Crashed)]
    for times in record.vouched.values():
        downs += [
            b for a, b in zip(times, [*times[1:], math.inf], strict=True) if b - a > record.rules.trusted / 2
        ]
    for event in record.events:
        if isinstance(event, Outcome) and event.why == "crashed":
            count = sum(1 for down in downs if down <= event.at or down == math.inf)
            if count < 3:
                yield Violation(
                    "a crash is a crash", event.at, f"{event.job} was buried after {count} workers went down"
                )


def _deaths(record: Record) -> Iterator[Violation]:
    """A worker ends when it is told to, whatever the faults."""
    for event in record.events:
        if isinstance(event, Died):
            yield Violation("a worker goes on", event.at, f"{event.worker}: {event.error}")


RULES: list[Callable[[Record], Iterator[Violation]]] = [
    _submits, _outcomes, _limits, _lease, _timeouts, _due, _losses, _crash_letters, _deaths,
]  # fmt: skip
