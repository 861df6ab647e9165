"""The log files of a run: who writes which line, and how they are read again. Imports nothing of flowq.

Each line is one write of under 4 KiB to a file opened with O_APPEND, so the lines of many processes do not mix, and what was
written stays when the writer is killed. Times are CLOCK_MONOTONIC, which all processes of one machine share.

- ``bodies.log``, by the bodies: ``TIME PID start TASK NUMBER TOKEN JOB FENCE``, later ``TIME PID done|cut|failed TASK NUMBER TOKEN``.
- ``jobs.log``, by the producer: ``TIME PID intent TASK NUMBER``, later ``TIME PID stored TASK NUMBER JOB`` or ``TIME PID perhaps …``.
- ``events.jsonl``, by the killer: one JSON object a line, see ``Event``.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

LOOK = 0.005
"""Seconds between two looks at a log that grows."""
END = 1 << 20
"""Bytes at the end of ``bodies.log`` that have all that runs: some twenty seconds."""


class Log:
    """An append-only log of lines."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *words: object) -> None:
        """Append the monotonic time, the process id and ``words`` as one line."""
        line = f"{time.monotonic():.6f} {os.getpid()} {' '.join(map(str, words))}\n"
        os.write(self._file, line.encode())

    def event(self, kind: str, **facts: Any) -> None:
        """Append one JSON object."""
        os.write(self._file, (json.dumps({"kind": kind, **facts}) + "\n").encode())


class Follow:
    """Reads what is appended to ``bodies.log`` from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size

    async def wait_start(self, job: str) -> None:
        """Wait for a run of this job to begin."""
        rest = b""
        while True:
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            *lines, rest = (rest + new).split(b"\n")
            if any(
                words[2] == b"start" and words[6] == job.encode()
                for line in lines
                if (words := line.split(b" "))
            ):
                return
            await trio.sleep(LOOK)


def gained(path: Path, task: str, since: float) -> Counter[int]:
    """By process: how many bodies of a type run in it now, less those that ran at ``since``. Looks at the end of ``bodies.log`` alone."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END))
        lines = file.read().decode(errors="replace").split("\n")[1:-1]
    open_now: dict[str, int] = {}
    more: Counter[int] = Counter()
    for at, pid, what, kind, _, token, *_ in (line.split(" ") for line in lines):
        if kind != task:
            continue
        if what == "start":
            open_now[token] = int(pid)
            more[int(pid)] -= float(at) <= since
        elif token in open_now:
            # it ran at ``since`` only if it ended later
            pid_of = open_now.pop(token)
            more[pid_of] += float(at) <= since
    more.update(open_now.values())
    return more


@attrs.frozen(kw_only=True)
class Run:
    """One run of a body."""

    task: str
    number: int
    """The producer's number of the job."""
    token: str
    """Of this very run: what the body returns, so that a recorded outcome names the run that it came from."""
    job: str
    fence: int
    pid: int
    start: float
    end: float | None
    """None if no line tells its end: its process died in it."""
    how: Literal["done", "cut", "failed", "open"]


@attrs.frozen(kw_only=True)
class Submit:
    """What the producer knows of a job."""

    task: str
    number: int
    intent: float
    stored: float | None
    """When the reply came that says it is stored. None: it may or may not be."""
    job: str


@attrs.frozen(kw_only=True)
class Event:
    """A line of the killer's log.

    kind: ``birth`` and ``death`` of a worker process (``code``: its exit code, ``how``: why its supervisor killed it, if that did it), the
    end of a ``supervisor``; the faults ``kill``, ``stop``, ``term``, ``link``,
    ``hog``, ``poison`` on one worker; the faults ``server``, ``storm``, ``pause``, ``clock`` on the server; ``begin`` and ``end`` of
    the load.
    """

    kind: str
    at: float
    until: float
    """When the fault was over: answered again, SIGCONT sent. Of a moment: the same as ``at``."""
    pid: int
    slot: int
    how: str
    code: int
    held: dict[str, int]
    """By type: deliveries that a swallowed reply held, counted on the wire. No body shows them."""


def bodies(path: Path) -> list[Run]:
    """Every run that ``bodies.log`` shows, in the order of their starts."""
    found: dict[str, Run] = {}
    for line in _lines(path):
        at, pid, what, task, number, token, *rest = line.split(" ")
        if what == "start":
            job, fence = rest
            found[token] = Run(
                task=task, number=int(number), token=token, job=job, fence=int(fence), pid=int(pid),
                start=float(at), end=None, how="open",
            )  # fmt: skip
        else:
            how: Any = what
            found[token] = attrs.evolve(found[token], end=float(at), how=how)
    return sorted(found.values(), key=lambda run: run.start)


def jobs(path: Path) -> list[Submit]:
    """Every job that ``jobs.log`` shows, in the order of their submits."""
    found: dict[int, Submit] = {}
    for line in _lines(path):
        at, _, what, task, number, *rest = line.split(" ")
        n = int(number)
        if what == "intent":
            found[n] = Submit(task=task, number=n, intent=float(at), stored=None, job="")
        elif what == "stored":
            found[n] = attrs.evolve(found[n], stored=float(at), job=rest[0])
    return list(found.values())


def events(path: Path) -> list[Event]:
    """The killer's log."""
    found = []
    for line in _lines(path):
        row = json.loads(line)
        found.append(
            Event(
                kind=row["kind"],
                at=row["at"],
                until=row.get("until", row["at"]),
                pid=row.get("pid", 0),
                slot=row.get("slot", -1),
                how=row.get("how", ""),
                code=row.get("code", 0),
                held=row.get("held", {}),
            )
        )
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        for line in file:
            yield line.rstrip("\n")
