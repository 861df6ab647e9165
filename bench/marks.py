"""What bodies write down, and what it proves. It knows nothing of flowq: no figure rests on what flowq says of itself.

A mark is one write to a file opened with O_APPEND, so marks of many processes do not mix. Times are ``time.monotonic()``, which all
processes of one machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

_handle = -1


def mark(*words: object) -> None:
    """Append the monotonic time, this process's id and ``words`` to the file that ``BENCH_MARKS`` names."""
    now = time.monotonic()
    global _handle  # noqa: PLW0603 - opened once a process, so that a mark costs one write
    if _handle < 0:
        _handle = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_handle, (" ".join(map(str, (f"{now:.6f}", os.getpid(), *words))) + "\n").encode())


@attrs.frozen
class Mark:
    """One line of the file."""

    at: float
    pid: int
    what: str
    number: int
    rest: tuple[str, ...]


def read(path: Path, what: str | None = None) -> list[Mark]:
    """All marks, or those of one kind, in the order in which they were made."""
    marks = []
    for line in path.read_text().splitlines():
        at, pid, kind, number, *rest = line.split(" ")
        if what is None or kind == what:
            marks.append(Mark(float(at), int(pid), kind, int(number), tuple(rest)))
    return sorted(marks, key=lambda mark: mark.at)


@attrs.frozen
class Body:
    """One run of a body that came to its end."""

    number: int
    pid: int
    start: float
    end: float


def bodies(path: Path, since: float = 0.0) -> list[Body]:
    """Bodies that marked ``start`` and ``end``, by their start."""
    begun: dict[tuple[int, int], float] = {}
    found = []
    for mark in read(path):
        if mark.at < since:
            continue
        if mark.what == "start":
            begun[mark.pid, mark.number] = mark.at
        elif mark.what == "end":
            found.append(Body(mark.number, mark.pid, begun.pop((mark.pid, mark.number)), mark.at))
    return sorted(found, key=lambda body: body.start)


def span(found: Iterable[Body]) -> float:
    """Seconds from the first start to the last end."""
    several = list(found)
    return max(body.end for body in several) - min(body.start for body in several)


def concurrency(found: Iterable[Body]) -> float:
    """Body seconds over ``span``: how many ran at once on average."""
    several = list(found)
    return sum(body.end - body.start for body in several) / span(several)


def peak(found: Iterable[Body]) -> int:
    """The most that ran at one moment."""
    edges = sorted(edge for body in found for edge in ((body.start, 1), (body.end, -1)))
    running = highest = 0
    for _, step in edges:
        running += step
        highest = max(highest, running)
    return highest
