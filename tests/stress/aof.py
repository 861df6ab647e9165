"""Outcomes as Redis itself wrote them to its append-only file, in the order of their writes. Imports nothing of flowq.

The run's server rewrites no file, so the file holds every write there ever was. ``docs/wire.md`` says what an outcome is: a JSON
object in the string ``…:r:<job id>``.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

_SET = re.compile(
    rb"\*\d+\r\n\$3\r\nSET\r\n\$\d+\r\nflowq:\{[^}]*\}:r:([^\r]+)\r\n\$(\d+)\r\n", re.IGNORECASE
)


@attrs.frozen
class Outcome:
    """One record of how a job ended."""

    job: str
    status: str
    value: str
    """What the body returned: the token of its run."""
    kind: str = ""
    """Of a dead letter: why."""


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Every outcome that was ever recorded, each as often as it was."""
    for path in files(folder):
        if path.stat().st_size == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for match in _SET.finditer(data):
                record = json.loads(data[match.end() : match.end() + int(match[2])])
                yield Outcome(
                    job=match[1].decode(), status=record["status"], value=str(record.get("value", "")),
                    kind=str(record.get("kind", "")),
                )  # fmt: skip


def files(folder: Path) -> list[Path]:
    """The append-only files in a server's data folder: one up to Redis 6.2, a folder of them from 7.0 on."""
    single = folder / "appendonly.aof"
    if single.is_file():
        return [single]
    parts = (folder / "appendonlydir").glob("*.incr.aof")
    return sorted(parts, key=lambda path: int(path.name.split(".")[-3]))
