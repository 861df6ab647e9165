"""What a supervisor and its worker processes tell each other without a message: a directory of small shared files.

    <base>/flowq-<uid>/<supervisor's pid>-<random>/
        lock            held by the supervisor
        <n>.pulse       worker process n writes, the supervisor reads: is its event loop turning, is it consuming?
        <n>.deadlines   see ``flowq._runtime.overrun``: when must limited bodies be gone?
        health.sock     the supervisor answers ``flowq health`` here

The base is in memory where the machine has such a place, so that no write ever waits for a disk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import attrs

from flowq._clock import monotonic_clock
from flowq._errors import ConfigurationError

PULSE: Final = "FLOWQ_PULSE"
"""Environment variable that names a worker process its pulse file."""
_PULSE: Final = struct.Struct("<ddIII8Q")
_LOADED, _CONSUMING, _DRAINING = 1, 2, 4


clock: Final = monotonic_clock()
"""Seconds that run on through a suspend, the same for all processes of the machine."""


@attrs.frozen
class Pulse:
    """What a worker process last said of itself. Times are ``clock()``; 0: never."""

    at: float = 0.0
    polled_at: float = 0.0
    """When it last claimed, or asked for work."""
    running: int = 0
    """Bodies."""
    loaded: bool = False
    """The app was imported."""
    consuming: bool = False
    """It is a member of the fleet."""
    draining: bool = False
    concurrency: int = 0
    succeeded: int = 0
    """This one and all below are counted since the process began, for ``/metrics``."""
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    handed_back: int = 0
    stalls: int = 0
    """Times that the event loop stood still."""
    outages: int = 0
    """Times that Redis was lost."""
    leases_lost: int = 0


_COUNTERS: Final = (
    "succeeded", "retried", "dead", "cancelled", "handed_back", "stalls", "outages", "leases_lost",
)  # fmt: skip


class PulseFile:
    """One worker process' file; both sides map it."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        fd = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0), 0o600)
        try:
            if create:
                os.ftruncate(fd, _PULSE.size)
            self._map = mmap.mmap(fd, _PULSE.size)
        finally:
            os.close(fd)
        self.path = path

    def write(self, pulse: Pulse) -> None:
        """Say it."""
        flags = _LOADED * pulse.loaded | _CONSUMING * pulse.consuming | _DRAINING * pulse.draining
        counts = [getattr(pulse, name) for name in _COUNTERS]
        _PULSE.pack_into(
            self._map, 0, pulse.at, pulse.polled_at, flags, pulse.running, pulse.concurrency, *counts
        )

    def read(self) -> Pulse:
        """What was said last."""
        at, polled_at, flags, running, concurrency, *counts = _PULSE.unpack_from(self._map, 0)
        return Pulse(
            at=at,
            polled_at=polled_at,
            running=running,
            loaded=bool(flags & _LOADED),
            consuming=bool(flags & _CONSUMING),
            draining=bool(flags & _DRAINING),
            concurrency=concurrency,
            **dict(zip(_COUNTERS, counts, strict=True)),
        )

    def close(self) -> None:
        self._map.close()


def base_dir() -> Path:
    """This user's directory for supervisors: ``FLOWQ_RUN_DIR``, else in /dev/shm, else where temporary files go.

    Raises:
        ConfigurationError: it cannot be made, or others can write to it.
    """
    named = os.environ.get("FLOWQ_RUN_DIR")
    shm = Path("/dev/shm")  # noqa: S108 -- checked below to be ours alone
    parent = Path(named) if named else shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())
    base = parent / f"flowq-{os.getuid()}"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = base.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"flowq needs a small directory that it can write, and {base} is not ({error.strerror}): set FLOWQ_RUN_DIR"
        ) from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise ConfigurationError(
            f"{base} is not a directory that only this user can write: remove it, or set FLOWQ_RUN_DIR"
        )
    return base


class RunDir:
    """One supervisor's directory, made now and removed by ``close``. What dead supervisors left behind is removed first.

    Whether one lives is a fact of a lock that the kernel drops with its holder: process ids repeat, and mean other processes in
    other containers.
    """

    def __init__(self) -> None:
        base = base_dir()
        for path in _all(base):
            if not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)
        # not to be seen by others before it is locked
        hidden = Path(tempfile.mkdtemp(prefix=".new-", dir=base))
        self._lock = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = hidden.rename(base / f"{os.getpid()}-{hidden.name.removeprefix('.new-')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def supervisors(base: Path) -> Iterator[tuple[int, Path]]:
    """Process id and directory of every supervisor that lives."""
    for path in _all(base):
        if _is_locked(path):
            yield int(path.name.partition("-")[0]), path


def _all(base: Path) -> list[Path]:
    return sorted(path for path in base.iterdir() if path.name.partition("-")[0].isdigit())


def _is_locked(path: Path) -> bool:
    try:
        probe = os.open(path / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False
