"""How well the tokens of a limited type were used while work for it was waiting. Imports nothing of flowq.

A token that nobody can use is not counted: those of a lost worker for at most TTL + 1 s, and all of them from a server fault's
begin to TTL + 1 s after its end. Both come from the killer's log; how many a lost worker held comes from the bodies' file. A worker
whose loop a body blocks for long counts as lost until a second after it: it can give nothing back.
"""

from __future__ import annotations

import math
from collections import defaultdict

import attrs

from tests.stress.logbook import Event, Run
from tests.stress.witness import Evidence, counted_spans


@attrs.frozen(kw_only=True)
class Use:
    """Token seconds of one type while work for it was waiting."""

    used: float
    available: float
    taken_out: float
    """Token seconds that were not counted, for faults."""

    @property
    def share(self) -> float:
        """Of the available ones; nan if there were none."""
        return self.used / self.available if self.available else math.nan

    @property
    def share_out(self) -> float:
        """What was taken out, of all token seconds with work waiting."""
        total = self.available + self.taken_out
        return self.taken_out / total if total else 0.0


def use_of(evidence: Evidence, task: str, begin: float, end: float) -> Use:
    """Integrate over the load's time.

    At each moment the need is no more than the bodies that run and the jobs that wait for their first start.
    """
    limit = evidence.limits[task]
    steps: dict[float, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for which, spans in enumerate(
        (
            [(a, b, 1) for a, b in counted_spans(evidence, task)],
            [(a, b, 1) for a, b in _waits(evidence, task)],
            _held(evidence, task),
            [(f.at, f.until + _after(f, evidence.ttl), 1) for f in evidence.server_faults()],
        )
    ):
        for start, stop, width in spans:
            if stop > start:
                steps[start][which] += width
                steps[stop][which] -= width
    used = available = taken_out = 0.0
    running = waiting = held = server = 0
    last = begin
    for at in sorted(steps):
        now = min(max(at, begin), end)
        if now > last and waiting > 0:
            need = min(limit, running + waiting)
            usable = 0 if server else min(need, max(0, limit - held))
            used += min(running, usable) * (now - last)
            available += usable * (now - last)
            taken_out += (need - usable) * (now - last)
        last = max(last, now)
        running, waiting, held, server = (
            value + step for value, step in zip((running, waiting, held, server), steps[at], strict=True)
        )
    return Use(used=used, available=available, taken_out=taken_out)


def _after(fault: Event, ttl: float) -> float:
    """How long after a server fault limited types may be idle: a restart costs one lease, a broken line one second."""
    return ttl + 1.0 if fault.kind == "server" else 1.0


def _waits(evidence: Evidence, task: str) -> list[tuple[float, float]]:
    """From the moment a job was known to be stored to its first start."""
    first: dict[int, float] = {}
    for run in evidence.runs:
        first.setdefault(run.number, run.start)
    return [
        (job.stored, first.get(job.number, math.inf))
        for job in evidence.jobs
        if job.task == task and job.stored is not None
    ]


def _held(evidence: Evidence, task: str) -> list[tuple[float, float, int]]:
    """The tokens that each worker held when it was lost or cut off, for at most TTL + 1 s."""
    deaths = evidence.deaths()
    by_pid: dict[int, list[Run]] = defaultdict(list)
    later: dict[str, float] = {}
    for run in evidence.runs:
        if run.task == task:
            by_pid[run.pid].append(run)
            later[run.job] = max(run.start, later.get(run.job, 0.0))
    found = []
    for event in [*evidence.events, *_hogs(evidence)]:
        if event.kind not in {"death", "stop", "link", "hog"} or (event.kind == "death" and event.code != -9):
            continue
        until = event.at + evidence.ttl + 1.0
        if event.kind != "death" and event.until - event.at < evidence.ttl:
            until = min(until, event.until + 1.0)
        count = event.held.get(task, 0)
        for run in by_pid[event.pid]:
            end = run.end if run.end is not None else deaths.get(event.pid, math.inf)
            unsettled = event.at - evidence.ttl <= end < event.at and later[run.job] > event.at
            count += run.start <= event.at and (end >= event.at or unsettled)
        found.append((event.at, until, count))
    return found


def _hogs(evidence: Evidence) -> list[Event]:
    """When which worker's event loop was blocked on purpose."""
    return [
        Event(
            kind="hog",
            at=run.start,
            until=run.end or run.start,
            pid=run.pid,
            slot=-1,
            how="",
            code=0,
            held={},
        )
        for run in evidence.runs
        if run.task in evidence.blocking
    ]
