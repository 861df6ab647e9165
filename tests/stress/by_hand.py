"""Log files of a run, written by hand: for tests of the witness and of the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from tests.stress import aof, logbook
from tests.stress.verdict import judge
from tests.stress.witness import Evidence

TTL = 2.0


@attrs.define
class Case:
    """Log files of a run in which everything is right, until a test adds to them."""

    folder: Path
    outcomes: list[tuple[str, dict[str, str]]] = attrs.field(factory=list)
    jobs: list[str] = attrs.field(factory=list)
    bodies: list[tuple[float, str]] = attrs.field(factory=list)
    events: list[dict[str, Any]] = attrs.field(
        factory=lambda: [{"kind": "begin", "at": 0.0}, {"kind": "end", "at": 100.0}]
    )

    def submit(self, number: int, task: str = "one", *, at: float = 0.0) -> str:
        """A job that was stored; gives its id."""
        job = f"{task}:{number}-0"
        self.jobs += [f"{at} 1 intent {task} {number}", f"{at + 0.001} 1 stored {task} {number} {job}"]
        return job

    def run(
        self, number: int, start: float, end: float | None, *, task: str = "one", pid: int = 10, fence: int = 0, job: str = "",
        how: str = "done",
    ) -> str:  # fmt: skip
        """A run of a body; gives its token."""
        fence = fence or number * 10
        token = f"{pid}.{fence}"
        self.bodies.append(
            (start, f"{pid} start {task} {number} {token} {job or f'{task}:{number}-0'} {fence}")
        )
        if end is not None:
            self.bodies.append((end, f"{pid} {how} {task} {number} {token}"))
        return token

    def succeed(self, job: str, token: str) -> None:
        self.outcomes.append((job, {"status": "succeeded", "value": token}))

    def whole(self, number: int, start: float, end: float, *, task: str = "one", pid: int = 10) -> None:
        """A job that was stored, ran once and succeeded."""
        self.succeed(self.submit(number, task), self.run(number, start, end, task=task, pid=pid))

    def happens(self, kind: str, at: float, **facts: Any) -> None:
        self.events.append({"kind": kind, "at": at, **facts})

    def evidence(self) -> Evidence:
        """Write the files, and read them as a run's are read."""
        (self.folder / "jobs.log").write_text("".join(line + "\n" for line in self.jobs))
        lines = "".join(f"{at:.6f} {rest}\n" for at, rest in sorted(self.bodies, key=lambda line: line[0]))
        (self.folder / "bodies.log").write_text(lines)
        (self.folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in self.events))
        (self.folder / "appendonly.aof").write_bytes(b"".join(written(*outcome) for outcome in self.outcomes))
        return Evidence(
            jobs=logbook.jobs(self.folder / "jobs.log"),
            runs=logbook.bodies(self.folder / "bodies.log"),
            outcomes=aof.outcomes(self.folder),
            events=logbook.events(self.folder / "events.jsonl"),
            limits={"one": 1, "two": 2},
            ttl=TTL,
            deadly=frozenset({"poison"}),
            cut=aof.submitted(self.folder),
        )

    def wrong(self, *, fast: bool = False) -> dict[str, list[str]]:
        """The questions whose answer is not as promised, with the evidence."""
        rows = judge(self.evidence(), left=[], fast=fast).rows
        return {row.question: row.details for row in rows if not row.is_right}


def written(job: str, record: dict[str, str]) -> bytes:
    """An outcome as Redis writes it to its append-only file, between other commands."""
    text = json.dumps(record, separators=(",", ":"))
    return (
        command("HINCRBY", "flowq:{t}:stats:one", "succeeded", "1")
        + command("SET", "flowq:{t}:r:" + job, text, "PX", "3600000")
        + command("XDEL", "flowq:{t}:s:one", job)
    )


def command(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)
