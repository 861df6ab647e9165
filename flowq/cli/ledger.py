"""A migration's ledger: one JSON object a line, only ever added to, on the disk before the next step begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from flowq._errors import ConfigurationError


class Line(msgspec.Struct, omit_defaults=True):
    """What became of one task, and when."""

    at: float
    """Unix seconds."""
    id: str
    what: str
    """``ready``, ``delayed``, ``audit``; ``back``: it was given back."""
    job: str = ""
    """The job's id, or why there is none."""
    lane: str = ""


class Ledger:
    """Open for adding. A line that was cut off by a crash is ended first, so that what follows can be read."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        try:
            self._file = path.open("ab+")
        except OSError as exc:
            raise ConfigurationError(
                f"the ledger {path} cannot be written: {exc.strerror}: name another file with --ledger"
            ) from None
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, lines: Iterable[Line]) -> None:
        """Write them, and return when they are on the disk."""
        self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())


def read(path: Path) -> Iterator[Line]:
    """Its lines; what was cut off by a crash is passed over: the server knows what it would have said.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        rows = path.read_bytes().splitlines()
    except OSError as exc:
        raise ConfigurationError(f"the ledger {path} cannot be read: {exc.strerror}") from None
    decode = msgspec.json.Decoder(Line).decode
    for row in rows:
        try:
            yield decode(row)
        except msgspec.DecodeError:
            continue
