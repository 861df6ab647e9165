"""The witness: an append-only log of bodies, written by the bodies themselves, and what it proves.

It imports nothing of flowq. Each line is one write of under 4 KiB to a file opened with O_APPEND, so lines of many processes do not
mix. Times are CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs


def note(path: str, *words: object) -> None:
    """Append one line: the monotonic time, the process id and ``words``."""
    line = " ".join(map(str, (f"{time.monotonic():.6f}", os.getpid(), *words))) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@attrs.frozen
class Body:
    """One run of a body. ``end`` is None if its process died in it."""

    task: str
    number: int
    pid: int
    start: float
    end: float | None
    finished: bool
    """It ran to its last line (a cancelled body ended without that)."""


def read(path: Path) -> list[Body]:
    """Every body that the log shows, in the order of their starts."""
    open_: dict[tuple[int, str, int], float] = {}
    bodies: list[Body] = []
    for line in path.read_text().splitlines():
        at, pid, what, task, number = line.split(" ")[:5]
        key = (int(pid), task, int(number))
        if what == "start":
            open_[key] = float(at)
        else:
            bodies.append(Body(task, key[2], key[0], open_.pop(key), float(at), what == "done"))
    bodies += [Body(task, number, pid, start, None, False) for (pid, task, number), start in open_.items()]
    return sorted(bodies, key=lambda body: body.start)


def peak(
    bodies: Iterable[Body],
    task: str,
    *,
    died: Mapping[int, float],
    excused: Mapping[int, tuple[float, float]] | None = None,
) -> int:
    """The most bodies of ``task`` that ran at one moment.

    Args:
        died: when each killed process was reaped: its open bodies end there.
        excused: (stopped, dead or past its own deadline after it went on) of processes that were SIGSTOPped: their bodies do not
            count in that time. From the killer's log, never from flowq.
    """
    edges: list[tuple[float, int]] = []
    for body in bodies:
        if body.task != task:
            continue
        end = body.end if body.end is not None else died[body.pid]
        spans = [(body.start, end)]
        if excused and body.pid in excused:
            a, b = excused[body.pid]
            spans = [(body.start, min(end, a)), (max(body.start, b), end)]
        for start, stop in spans:
            if stop > start:
                edges += [(start, 1), (stop, -1)]
    # an end and a start at the very same microsecond do not overlap
    edges.sort()
    running = highest = 0
    for _, step in edges:
        running += step
        highest = max(highest, running)
    return highest


def effective_concurrency(bodies: Iterable[Body], task: str) -> float:
    """Body seconds of the finished bodies over the time from the first start to the last end."""
    done = [(b.start, b.end) for b in bodies if b.task == task and b.end is not None and b.finished]
    total = sum(end - start for start, end in done)
    return total / (max(end for _, end in done) - min(start for start, _ in done))


def completions(bodies: Iterable[Body], task: str) -> Counter[int]:
    """How often each job of ``task`` ran to its last line."""
    return Counter(body.number for body in bodies if body.task == task and body.finished)
