"""Outcomes as Redis itself wrote them to its append-only file, in the order of their writes. Imports nothing of flowq.

No file is thrown away when Redis rewrites it, so that they hold every write there ever was. ``docs/wire.md`` says what an outcome is: a JSON
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


_ENTRY = re.compile(
    rb"\$4\r\nXADD\r\n\$\d+\r\nflowq:\{[^}]*\}:s:([^\r]+)\r\n\$\d+\r\n(\d+-\d+)\r\n", re.IGNORECASE
)
_DELAYED = re.compile(
    rb"\$4\r\nHSET\r\n\$\d+\r\nflowq:\{[^}]*\}:delayed:d\r\n\$\d+\r\n([^\r]+)\r\n", re.IGNORECASE
)
_COMMANDS = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"


@attrs.frozen
class Outcome:
    """One record of how a job ended."""

    job: str
    status: str
    value: str
    """What the body returned: the token of its run."""
    kind: str = ""
    """Of a dead letter: why."""


def outcomes(folder: Path) -> list[Outcome]:
    """Every outcome that was ever recorded, each as often as it was."""
    found: list[Outcome] = []
    for path in files(folder):
        more = list(_outcomes_in(path))
        overlap = 0
        if path.name == "appendonly.aof" or path.name.startswith("history-"):
            overlap = next((k for k in range(min(len(found), len(more)), 0, -1) if found[-k:] == more[:k]), 0)
        found += more[overlap:]
    return found


def cut_tail(folder: Path, size: int, keep: Path) -> None:
    """Take up to so many bytes off the end of what a dead server has written, as a loss of power does; they go to ``keep``."""
    path = files(folder)[-1]
    data = path.read_bytes()
    # a rewritten file begins with a snapshot, which has no loose end
    cut = max(len(data) - size, data.find(_COMMANDS) + len(_COMMANDS))
    keep.write_bytes(data[cut:])
    with path.open("r+b") as file:
        file.truncate(cut)


def submitted(folder: Path) -> frozenset[str]:
    """Ids of jobs whose submit is in a tail that was cut off."""
    found: set[str] = set()
    for path in folder.glob("tail-*.bin"):
        data = path.read_bytes()
        found |= {f"{match[1].decode()}:{match[2].decode()}" for match in _ENTRY.finditer(data)}
        found |= {match[1].decode() for match in _DELAYED.finditer(data)}
    return frozenset(found)


def files(folder: Path) -> list[Path]:
    """The append-only files in a server's data folder, oldest first: from Redis 7 on a folder of them that do not overlap.

    Up to 6.2 it is one file. A rewrite takes its place; what was written during the rewrite is in both. Old ones are kept by
    ``Server`` under a second name, ``history-….aof``.
    """
    parts = (folder / "appendonlydir").glob("*.incr.aof")
    found = sorted(parts, key=lambda path: int(path.name.split(".")[-3])) + sorted(
        folder.glob("history-*.aof")
    )
    single = folder / "appendonly.aof"
    if single.is_file() and not any(single.samefile(path) for path in found):
        found.append(single)
    return found


def _outcomes_in(path: Path) -> Iterator[Outcome]:
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _SET.finditer(data):
            record = json.loads(data[match.end() : match.end() + int(match[2])])
            yield Outcome(
                job=match[1].decode(), status=record["status"], value=str(record.get("value", "")),
                kind=str(record.get("kind", "")),
            )  # fmt: skip
