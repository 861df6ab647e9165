"""What is done to each design: a full queue of no-ops, the seed's story at limit 3, single jobs, a kill."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence

import anyio
import attrs

from bench import marks
from bench.conditions import deadline
from bench.designs.crew import Counts, Crew
from bench.designs.design import LIMITS, TTL, Design, Job
from bench.server import usage

PILOT = 300
STORY = 12
SILENCE = 2.0
"""Seconds without any end of a body after which what is missing counts as lost, where nobody died."""
SILENCE_AFTER_KILL = 2 * TTL + 1.0


@attrs.frozen
class Noops:
    """A full queue of jobs that do nothing, of the type without a limit."""

    per_second: float
    client_us: float
    """User and system time of all workers, per job."""
    redis_us: float
    attempts: float
    """Per job."""
    empty: float
    """Attempts per job that brought nothing."""
    twice: int
    """Jobs that ran twice."""
    lost: int


@attrs.frozen
class Story:
    """The seed's story: twelve jobs, limit 3, submitted at once."""

    effective: float
    """Body seconds over the time from the first start to the last end."""
    peak: int
    lost: int
    attempts: float
    empty: float
    cpu_us: float
    """Of workers and Redis, per job, from the submit to the last end."""


@attrs.frozen
class Kill:
    """SIGKILL of the worker that runs most bodies."""

    in_hand: int
    """Bodies that it ran."""
    lost_in_hand: int
    """Those of them that never ran to their end."""
    lost: int
    """Jobs of all workers that never ran to their end."""
    twice: int
    peak: int
    """Of limited bodies at once."""
    seconds: float
    """From the kill to the last restart of a job that it ran; 0 if none was."""


def warm_up(crew: Crew) -> None:
    """One job of each type has run: imports are done, and flowq's limited tasks may start on a fresh server."""
    jobs = [job for type_ in LIMITS for job in crew.jobs(1, type_)]
    crew.submit(jobs)
    if crew.ran(jobs, 30.0):
        raise RuntimeError(f"{crew.name} does not work:\n{crew.said()[-4000:]}")


def noops(crew: Crew, count: int) -> Noops:
    """All are stored before the first may start."""
    jobs = crew.jobs(count)
    with crew.server.client() as client:

        async def fill(design: Design) -> tuple[Counts, float]:
            async with crew.held(design):
                await design.submit(jobs)
                return crew.counts(), usage(client).cpu_us

        before, redis_us = crew.produce(fill)
        lost = crew.ran(jobs, 2 * SILENCE)
        spent, redis_us = crew.counts() - before, usage(client).cpu_us - redis_us
    ends = [crew.log.ends[job.number] for job in jobs if job.number in crew.log.ends]
    firsts = sorted(end[0][0] for end in ends)
    return Noops(
        per_second=(len(ends) - 1) / (firsts[-1] - firsts[0]),
        client_us=spent.cpu_us / count,
        redis_us=redis_us / count,
        attempts=spent.attempts / count,
        empty=spent.empty / count,
        twice=sum(len(end) > 1 for end in ends),
        lost=len(lost),
    )


def story(crew: Crew, body: float) -> Story:
    """Counts end with the last body, also where the others are lost and are waited for in vain."""
    jobs = crew.jobs(STORY, "limited", body)
    with crew.server.client() as client:
        samples: list[tuple[float, Counts, float]] = []

        def sample() -> None:
            counts, cpu_us = crew.counts(), usage(client).cpu_us
            samples.append((time.monotonic(), counts, cpu_us))

        sample()
        crew.submit(jobs)
        began = time.monotonic()
        while any(job.number not in crew.log.ends for job in jobs):
            time.sleep(0.05)
            sample()
            if time.monotonic() > max(crew.log.last, began) + SILENCE:
                break
        sample()
    ran = crew.log.bodies(jobs, crew.died)
    end = max(body.end for body in ran)
    _, counts, redis_us = next(one for one in samples if one[0] >= end)
    spent = counts - samples[0][1]
    return Story(
        effective=marks.concurrency(ran),
        peak=marks.peak(ran),
        lost=sum(job.number not in crew.log.ends for job in jobs),
        attempts=spent.attempts / STORY,
        empty=spent.empty / STORY,
        cpu_us=(spent.cpu_us + redis_us - samples[0][2]) / STORY,
    )


def pings(crew: Crew, count: int, gap: float) -> list[float]:
    """Milliseconds from before the submit to the body's first line, for jobs submitted one at a time."""
    jobs = crew.jobs(count)
    sent: dict[int, float] = {}

    async def ping(design: Design) -> None:
        for job in jobs:
            sent[job.number] = time.monotonic()
            await design.submit([job])
            await anyio.sleep(gap * random.uniform(0.5, 1.5))

    crew.produce(ping)
    if lost := crew.ran(jobs, 5 * SILENCE):
        raise RuntimeError(f"{len(lost)} of {count} single jobs never ran")
    return [(crew.log.ends[job.number][0][0] - sent[job.number]) * 1000 for job in jobs]


def pings_beside(crew: Crew, count: int, gap: float, body: float) -> list[float]:
    """The same while the limited type has more jobs than may run."""
    limit = LIMITS["limited"]
    backlog = crew.jobs(round(limit * (count * gap + 0.3) / body), "limited", body)
    crew.submit(backlog)
    patience = deadline(10, f"limited jobs of {crew.name} began")
    while not any(job.number in crew.log.starts for job in backlog):
        patience.wait(0.002)
        crew.log.read()
    found = pings(crew, count, gap)
    crew.ran(backlog, SILENCE)
    return found


def kill(crew: Crew, free: int, limited: int, body: float) -> Kill:
    """Jobs of both types, more than run at once; half way through the second wave the worker with most running bodies is killed."""
    jobs = [*crew.jobs(free, "free", body), *crew.jobs(limited, "limited", body)]
    crew.submit(jobs)
    patience = deadline(30, f"{crew.name} worked")
    while time.monotonic() < _first_start(crew, jobs) + 1.5 * body or not any(_in_hand(crew, jobs).values()):
        patience.wait(0.005)
        crew.log.read()
    in_hand = _in_hand(crew, jobs)
    victim = max(in_hand, key=lambda index: len(in_hand[index]))
    pid = crew.processes[victim].pid
    killed = crew.kill(victim)
    crew.log.read()
    held = [job for job in jobs if _runs(crew, job, pid)]
    lost = crew.ran(jobs, SILENCE_AFTER_KILL)
    again = [
        min((at for at, by in crew.log.starts[job.number] if by != pid), default=killed) - killed
        for job in held
    ]
    return Kill(
        in_hand=len(held),
        lost_in_hand=sum(job in lost for job in held),
        lost=len(lost),
        twice=sum(len(crew.log.ends.get(job.number, ())) > 1 for job in jobs),
        peak=marks.peak(crew.log.bodies([job for job in jobs if job.type == "limited"], crew.died)),
        seconds=max(again, default=0.0),
    )


def _first_start(crew: Crew, jobs: Sequence[Job]) -> float:
    return min(
        (crew.log.starts[job.number][0][0] for job in jobs if job.number in crew.log.starts), default=math.inf
    )


def _runs(crew: Crew, job: Job, pid: int) -> bool:
    """Its last start was there, and it has not ended."""
    starts = crew.log.starts.get(job.number, [])
    return job.number not in crew.log.ends and bool(starts) and starts[-1][1] == pid


def _in_hand(crew: Crew, jobs: Sequence[Job]) -> dict[int, list[Job]]:
    """Worker → the jobs whose bodies run there."""
    return {
        index: [job for job in jobs if _runs(crew, job, process.pid)]
        for index, process in crew.processes.items()
    }
