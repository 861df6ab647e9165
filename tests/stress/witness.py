"""What the logs of a run prove: lost jobs, double outcomes, overlaps, stale settles, recovery times. Imports nothing of flowq.

Three independent sources: the producer's file says what was submitted, the bodies' file what ran when, Redis' append-only file
which outcomes were recorded and by which run. The killer's log alone says what is excused.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

from tests.stress.aof import Outcome
from tests.stress.logbook import Event, Run, Submit

_SUPERVISOR_ENDS = {0, 3, -9, 70}
"""Told to stop, with bodies handed back or not; killed; five of its workers died within a minute, as they do here."""
TAKEN_OVER = 0.75
"""Of the lease: how long after a worker was lost another one may have taken its jobs over, at the earliest."""
AWAKE = 1.0
"""Seconds after SIGCONT in which a body that was stopped past its lease may still be on its way out, if nothing else keeps the machine."""


@attrs.frozen(kw_only=True)
class Evidence:
    """Everything that is known of a run, and the promises that it is held against."""

    jobs: Sequence[Submit]
    runs: Sequence[Run]
    outcomes: Sequence[Outcome]
    events: Sequence[Event]
    limits: Mapping[str, int]
    ttl: float
    deadly: frozenset[str] = frozenset()
    """Types whose jobs shall end as a dead letter."""
    cut: frozenset[str] = frozenset()
    """Jobs whose submit the server forgot after it had acknowledged it: the run took the end of its file away."""
    blocking: frozenset[str] = frozenset()
    """Types whose bodies block their worker's event loop for longer than a lease."""
    awake: float = AWAKE
    busy: bool = False
    """The machine had something else to do: a worker that overran its lease, and was killed for that, is counted only."""

    def deaths(self) -> dict[int, float]:
        """When each dead process was reaped: the bodies that were open in it ended then."""
        return {event.pid: event.at for event in self.events if event.kind == "death"}

    def server_faults(self) -> list[Event]:
        """Faults that reach every worker at once."""
        return [event for event in self.events if event.kind in {"server", "storm", "pause"}]


@attrs.frozen(kw_only=True)
class Recovery:
    """From the moment a worker was lost to the next start of a job that it held."""

    task: str
    seconds: float
    allowed: float
    pid: int
    at: float
    disturbed: bool
    """A server fault fell into it, which adds one lease; or who took the job over was lost in its turn."""


def lost(evidence: Evidence) -> list[str]:
    """Jobs that were stored and whose end is not on record, or was recorded without a body that ran to its end."""
    recorded = {outcome.job: outcome for outcome in evidence.outcomes}
    finished = {(run.job, run.token) for run in evidence.runs if run.how == "done"}
    wrong = []
    for job in evidence.jobs:
        if job.stored is None:
            continue
        outcome = recorded.get(job.job)
        if outcome is None and job.job in evidence.cut:
            continue
        if outcome is None:
            wrong.append(f"{job.job} (number {job.number}): stored, and no outcome is on record")
        elif outcome.status == "succeeded" and (job.job, outcome.value) not in finished:
            wrong.append(f"{job.job}: succeeded with {outcome.value!r}, which no body returned")
        elif (outcome.status == "dead") != (job.task in evidence.deadly):
            wrong.append(f"{job.job}: ended as {outcome.status} {outcome.kind}")
    return wrong


def doubles(evidence: Evidence) -> list[str]:
    """Jobs with more than one recorded outcome."""
    counted = Counter(outcome.job for outcome in evidence.outcomes)
    return [f"{job}: {times} outcomes" for job, times in counted.items() if times > 1]


def copies(evidence: Evidence) -> tuple[list[str], int]:
    """Numbers that became two jobs; and how many more such there are whose marker a clock step had taken away (P6 says so)."""
    ids: dict[int, set[str]] = defaultdict(set)
    for job in evidence.jobs:
        if job.job:
            ids[job.number].add(job.job)
    for run in evidence.runs:
        ids[run.number].add(run.job)
    steps = [event.at for event in evidence.events if event.kind == "clock"]
    submits = {job.number: job for job in evidence.jobs}
    wrong, excused = [], 0
    for number, found in ids.items():
        if len(found) < 2:
            continue
        submit = submits[number]
        end = submit.stored if submit.stored is not None else math.inf
        if found & evidence.cut or any(submit.intent <= step <= end for step in steps):
            excused += 1
        else:
            wrong.append(f"number {number} became {sorted(found)}")
    return wrong, excused


def stale_settles(evidence: Evidence) -> list[str]:
    """Outcomes that came from a run although a younger delivery of the same job had begun."""
    youngest: dict[str, Run] = {}
    by_token = {run.token: run for run in evidence.runs}
    for run in evidence.runs:
        if run.job not in youngest or run.fence > youngest[run.job].fence:
            youngest[run.job] = run
    wrong = []
    for outcome in evidence.outcomes:
        older, young = by_token.get(outcome.value), youngest.get(outcome.job)
        if older is not None and young is not None and young.fence > older.fence:
            wrong.append(
                f"{outcome.job}: the outcome is of run {older.token} (fence {older.fence}), though run {young.token} "
                f"(fence {young.fence}) had begun"
            )
    return wrong


def stale_bodies(evidence: Evidence) -> list[Run]:
    """Runs in a stopped process that were still there when a younger delivery of their job began."""
    stopped = {event.pid for event in evidence.events if event.kind == "stop"}
    deaths = evidence.deaths()
    found = []
    for runs in _by_job(evidence.runs).values():
        for older, younger in pairwise(runs):
            if older.pid in stopped and _end(older, deaths) > younger.start:
                found.append(older)
    return found


def excused(evidence: Evidence) -> dict[int, list[tuple[float, float]]]:
    """By process: from SIGSTOP sent to waitpid, or to its own deadline after SIGCONT."""
    deaths = evidence.deaths()
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in evidence.events:
        if event.kind == "stop":
            spans[event.pid].append(
                (event.at, min(event.until + evidence.awake, deaths.get(event.pid, math.inf)))
            )
    return spans


def counted_spans(evidence: Evidence, task: str) -> list[tuple[float, float]]:
    """When bodies of a type ran, without what is excused. A killed body ends when its process was reaped."""
    deaths, spans = evidence.deaths(), excused(evidence)
    found: list[tuple[float, float]] = []
    for run in evidence.runs:
        if run.task != task:
            continue
        pieces = [(run.start, _end(run, deaths))]
        for begin, until in spans.get(run.pid, ()):
            pieces = [
                piece
                for start, end in pieces
                for piece in ((start, min(end, begin)), (max(start, until), end))
                if piece[1] > piece[0]
            ]
        found += pieces
    return found


def peak(spans: Iterable[tuple[float, float]]) -> tuple[int, float]:
    """The most spans that overlap, and when that was first so. An end and a start at the same microsecond do not overlap."""
    edges = sorted(edge for start, end in spans for edge in ((start, 1), (end, -1)))
    running = highest = 0
    when = 0.0
    for at, step in edges:
        running += step
        if running > highest:
            highest, when = running, at
    return highest, when


def recoveries(evidence: Evidence) -> list[Recovery]:
    """For each worker that was lost (killed, or stopped or cut off for longer than its lease): its jobs' next starts."""
    faults = evidence.server_faults()
    by_job = _by_job(evidence.runs)
    recorded = {outcome.value for outcome in evidence.outcomes}
    lost_at = _losses(evidence)
    found = []
    for runs in by_job.values():
        for older, younger in pairwise(runs):
            at = lost_at.get(older.pid)
            if (
                at is None
                or older.task in evidence.deadly
                or older.how == "failed"
                or older.token in recorded
            ):
                continue
            if not older.start <= at <= younger.start or (
                older.end is not None and older.end < at - evidence.ttl
            ):
                continue
            hits = [f for f in faults if f.at <= younger.start and f.until + evidence.ttl >= at]
            again = [
                later - at
                for pid, later in lost_at.items()
                if pid != older.pid and at + TAKEN_OVER * evidence.ttl <= later <= younger.start
            ]
            allowed = evidence.ttl + 1.0 + max(again, default=0.0)
            allowed += evidence.ttl + sum(f.until - f.at for f in hits) if hits else 0.0
            found.append(
                Recovery(
                    task=older.task,
                    seconds=younger.start - at,
                    allowed=allowed,
                    pid=older.pid,
                    at=at,
                    disturbed=bool(hits or again),
                )
            )
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed; nan if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def unexpected_ends(evidence: Evidence) -> list[str]:
    """Processes that ended although nobody had killed them, told them to, or given them a poison job; or ended badly when told.

    Who has drained gives the signal handlers back, so a second SIGTERM may find the default one, which is an end as asked.
    """
    told = Counter(event.pid for event in evidence.events if event.kind == "term")
    killed = {event.pid for event in evidence.events if event.kind in {"kill", "stop"}}
    killed |= {run.pid for run in evidence.runs if run.task in evidence.deadly}
    wrong = []
    for event in evidence.events:
        if event.kind == "death":
            is_killed = event.pid in killed or (evidence.busy and event in killed_by_supervisors(evidence))
            is_told = (event.code in {0, 3} and told[event.pid] > 0) or (
                event.code == -15 and told[event.pid] > 1
            )
            if not is_told and not (event.code == -9 and is_killed):
                wrong.append(f"worker {event.pid} ended with code {event.code} {event.how}".rstrip())
        elif event.kind == "supervisor" and event.code not in _SUPERVISOR_ENDS:
            wrong.append(f"the supervisor {event.pid} ended with code {event.code}")
    return wrong


def killed_by_supervisors(evidence: Evidence) -> list[Event]:
    """Workers that overran their lease with limited bodies in them."""
    return [event for event in evidence.events if event.kind == "death" and "lease ended" in event.how]


def _losses(evidence: Evidence) -> dict[int, float]:
    """When each lost process was lost: the first of its death and of a fault that outlasts its lease."""
    moments: dict[int, float] = {}
    for event in evidence.events:
        long = event.kind in {"stop", "link"} and event.until - event.at >= evidence.ttl
        if (event.kind == "death" and event.code == -9) or long:
            moments[event.pid] = min(event.at, moments.get(event.pid, math.inf))
    return moments


def _by_job(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Each job's runs, oldest delivery first."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.job].append(run)
    for group in found.values():
        group.sort(key=lambda run: run.fence)
    return found


def _end(run: Run, deaths: Mapping[int, float]) -> float:
    return run.end if run.end is not None else deaths.get(run.pid, math.inf)
