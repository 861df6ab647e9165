"""What the contestants are asked to do, each once a call: a sample of each measure, or ``Gone`` with the reason."""

from __future__ import annotations

import os
import signal
import time
from itertools import accumulate
from typing import Any

import attrs

from bench.conditions import Gone, percentile
from bench.peers.samples import Measure
from bench.peers.stage import LOOK, Stage, wait_for
from bench.server import usage

STEADY = 60.0
"""Seconds that a worker may take to run its first body."""
HELD = 20
"""Jobs that run when a worker is killed, at most."""
BODY = 3.0
"""Seconds that such a job takes."""
LIMITED_UP = 3.0
"""Seconds that several workers have to come up before the first limited job is stored."""
LIMITED_WARM = 0.5
"""Seconds from the first limited body until they are counted."""
WAYS = {"one": "one by one, awaited", "concurrent": "100 callers at once", "bulk": "bulk"}


@attrs.frozen
class Sample:
    """One value, and what else the run told."""

    measure: Measure
    value: float
    facts: dict[str, float] = attrs.field(factory=dict)
    note: str = ""


def noops(stage: Stage, processes: int, jobs: int) -> Sample:
    """(a) So many no-op jobs, stored before the workers start, in so many worker processes.

    The clock runs from the first body, or, with several processes, from when each of them has run one, to the last body. Every
    job's body must have run once.
    """
    measure = Measure("a", f"no-op jobs, {processes} process{'es' if processes > 1 else ''}", "jobs/s")
    stage.produce("enqueue", {"way": "bulk", "jobs": jobs}, timeout=60 + jobs / 200)
    with stage.server.client() as client:
        check_stored(stage, jobs)
        for _ in range(processes):
            stage.start()
        wait_for(stage, "a first body", STEADY, until=lambda: len(stage.tallies()) == processes)
        tallies = stage.tallies()
        one = tallies[0]
        began, done = (one.first, 1) if processes == 1 else (time.monotonic(), sum(t.bodies for t in tallies))
        so_far = sum(t.bodies for t in tallies)
        before, cpu = usage(client), stage.cpu_us()
        wait_for(
            stage,
            f"{jobs} bodies",
            30 + jobs / 150,
            until=lambda: sum(t.bodies for t in stage.tallies()) >= jobs,
        )
        tallies = stage.tallies()
        after, cpu = usage(client), stage.cpu_us() - cpu
        time.sleep(20 * LOOK)
        ran = sum(tally.bodies for tally in stage.tallies())
    if ran != jobs:
        raise Gone(f"{ran} bodies ran for {jobs} jobs")
    if processes > 1 and so_far > jobs / 2:
        raise Gone(f"{so_far} of {jobs} jobs had run when the last worker came up: too few for a figure")
    rest = jobs - so_far
    facts = (
        {
            "worker CPU, µs/job": cpu / rest,
            "Redis CPU, µs/job": (after.cpu_us - before.cpu_us) / rest,
            "Redis commands, scripts' own among them, a job": (after.commands - before.commands) / rest,
        }
        if rest > jobs / 2
        else {}
    )
    return Sample(measure, (jobs - done) / (max(tally.last for tally in tallies) - began), facts)


def stored(stage: Stage, way: str, seconds: float) -> Sample:
    """(b) As many jobs as one producer process stores in so many seconds."""
    done = stage.produce("enqueue", {"way": way, "seconds": seconds}, timeout=60 + 10 * seconds)
    check_stored(stage, done["jobs"])
    return Sample(Measure("b", WAYS[way], "jobs/s"), done["jobs"] / done["seconds"])


def latencies(stage: Stage, rate: float, seconds: float) -> list[Sample]:
    """(d) From before the call that enqueues to the body's first line, beside so many no-op jobs a second (0: idle)."""
    stage.start()
    stage.produce("enqueue", {"way": "one", "jobs": 1, "body": "probe", "args": [time.monotonic()]})
    wait_for(stage, "a first body", STEADY, until=lambda: stage.marks("probe"))
    stage.produce("feed", {"rate": rate, "seconds": 0.5})
    time.sleep(0.5)
    since = time.monotonic()
    fed = stage.produce("feed", {"rate": rate, "seconds": seconds}, timeout=60 + 10 * seconds)

    def arrived() -> list[float]:
        return [mark.value for mark in stage.marks("probe") if mark.at > since]

    wait_for(stage, "all probes", 30.0, until=lambda: len(arrived()) >= fed["probes"])
    found = arrived()
    load = "idle" if not rate else "at half of its own rate"
    facts = {"jobs/s beside": fed["jobs"] / fed["seconds"], "probes": float(len(found))}
    return [
        Sample(
            Measure("d", f"latency {load}, p{q}", "ms", more_is_better=False),
            percentile(found, q) * 1000,
            facts,
        )
        for q in (50, 95, 99)
    ]


def recovered(stage: Stage, patience: float) -> Sample:
    """(g) From SIGKILL of the worker's process group to the start of the last of its jobs in a worker that came a second later."""
    stage.start()
    stage.produce("number", {"body": "hold", "jobs": HELD, "seconds": BODY})
    wait_for(stage, "a first body", STEADY, until=lambda: stage.marks("hold"))
    time.sleep(0.3)
    held = {mark.value for mark in stage.marks("hold")}
    victim = stage.workers.pop()
    killed = time.monotonic()
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    time.sleep(1.0)
    stage.start()

    def again() -> dict[float, float]:
        found: dict[float, float] = {}
        for mark in stage.marks("hold"):
            if mark.at > killed and mark.value in held:
                found.setdefault(mark.value, mark.at - killed)
        return found

    limit = killed + patience
    while len(again()) < len(held) and time.monotonic() < limit:
        stage.check_alive()
        time.sleep(5 * LOOK)
    found = again()
    measure = Measure("g", "SIGKILL → the last of its jobs starts elsewhere", "s", more_is_better=False)
    if len(found) < len(held):
        note = f"{len(found)} of {len(held)} within {patience:.0f} s"
        return Sample(measure, float("inf"), {"jobs": float(len(held))}, note)
    return Sample(measure, max(found.values()), {"jobs": float(len(held))})


def waited(stage: Stage, width: int, body: float, seconds: float, most: float) -> Sample:
    """(c) Bodies that wait, so many at once: their rate between two looks, as a share of ``width / body``.

    Args:
        stage: with a worker that may run so many at once.
        width: bodies at once.
        body: seconds that each waits.
        seconds: between the two looks.
        most: jobs a second that the contestant can do at all, about: more need not be stored.
    """
    measure = Measure("c", f"{width} × {body * 1000:g} ms: share of as many bodies at once", "of 1")
    jobs = int(min(width / body, 1.3 * most) * (seconds + 10 * body + 0.5)) + 2 * width
    stage.produce("enqueue", {"way": "bulk", "jobs": jobs, "body": "wait", "args": [body]}, 60 + jobs / 200)
    stage.start()
    wait_for(stage, "a first body", STEADY, until=stage.tallies)
    time.sleep(4 * body)
    first, began = stage.ran(), max(tally.last for tally in stage.tallies())
    time.sleep(seconds)
    last, ended = stage.ran(), max(tally.last for tally in stage.tallies())
    if last == first:
        raise Gone(f"no body ended within {seconds:g} s")
    rate = (last - first) / (ended - began)
    return Sample(measure, rate * body / width, {"bodies/s": rate})


def limited(stage: Stage, limit: int, workers: int, body: float, seconds: float) -> Sample:
    """(e) Bodies of a task with a limit over all workers, for so many seconds from the first: their share of what fits in."""
    measure = Measure(
        "e", f"limit {limit}, {workers} workers, {body * 1000:g} ms: share of {limit} at once", "of 1"
    )
    for _ in range(workers):
        stage.start()
    time.sleep(LIMITED_UP)
    jobs = int(1.2 * limit * (seconds + LIMITED_WARM) / body)
    stage.produce("number", {"body": "scarce", "jobs": jobs, "seconds": body}, timeout=120)
    wait_for(stage, "a first body", STEADY, until=lambda: stage.marks("begin"))
    since = stage.marks("begin")[0].at + LIMITED_WARM
    time.sleep(max(0.0, since + seconds + body - time.monotonic()))
    begins, ends = stage.marks("begin"), stage.marks("end")
    done = sum(since <= mark.at < since + seconds for mark in ends)
    changes = sorted([(mark.at, 1) for mark in begins] + [(mark.at, -1) for mark in ends])
    peak = max(accumulate(change for _, change in changes))
    note = f"limit exceeded: {peak} at once" if peak > limit else ""
    return Sample(
        measure, done * body / limit / seconds, {"jobs/s": done / seconds, "most at once": peak}, note
    )


def check_stored(stage: Stage, jobs: int) -> None:
    """Redis holds so many, by the command that the adapter names.

    Raises:
        Gone: it holds another number.
    """
    with stage.server.client() as client:
        found: Any = client.execute_command(*stage.contestant.peer.queued.split())  # type: ignore[no-untyped-call]
    if int(found or 0) != jobs:
        raise Gone(f"its producer stored {jobs} jobs, and Redis holds {found}")
