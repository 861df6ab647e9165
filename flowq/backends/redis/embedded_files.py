"""The directory of an embedded redis-server: its files, and what their locks say; see ``embedded``."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowq._errors import ConfigurationError, Unavailable
from flowq.backends.redis.url import UNIX_PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Generator

POLL: Final = 0.01
"""Seconds between two looks at what another process does."""


def log_end(home: Path) -> str:
    """What the server said last."""
    return (home / "redis.log").read_text(errors="replace")[-1000:]


def socket_path(home: Path) -> Path:
    """Where the server listens: in the directory, unless the path would be too long for a socket.

    Raises:
        ConfigurationError: somebody else can enter the directory for such sockets.
    """
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= UNIX_PATH_LIMIT:
        return path
    # not tempfile.gettempdir(): each user of the directory must come to the same path, whatever its TMPDIR
    folder = Path("/tmp", f"flowq-{os.getuid()}")  # noqa: S108 -- checked below to be ours alone
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise ConfigurationError(f"{folder} is not a directory that only this user can enter: remove it")
    return folder / f"{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}.sock"


def server_runs(home: Path) -> bool:
    """Is there a server that was started here? Only with ``start.lock`` held: for a moment this takes the server's lock itself."""
    with opened(home / "server.lock") as probe:
        return not try_lock(probe, fcntl.LOCK_EX)


def server_pid(home: Path) -> int | None:
    """The server's process id; None: it does not run."""
    try:
        pid = int((home / "server.lock").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


@contextlib.contextmanager
def opened(path: Path) -> Generator[int]:
    """A lock's file, for the length of a block."""
    # not inherited by programs that a user starts: Python opens files so
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def locked(path: Path, timeout: float) -> Generator[None]:
    """Hold a lock for the length of a block; wait for it so many seconds. Raises Unavailable."""
    with opened(path) as file:
        lock_within(file, fcntl.LOCK_EX, timeout, path)
        yield


def lock_within(file: int, kind: int, timeout: float, what: Path) -> None:
    """Take a lock; wait for it so many seconds. Raises Unavailable, which names ``what``."""
    deadline = time.monotonic() + timeout
    while not try_lock(file, kind):
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} has been locked by another process for {timeout:g} s")
        time.sleep(POLL)


def try_lock(file: int, kind: int) -> bool:
    """Take a lock now, ``LOCK_SH`` or ``LOCK_EX``. False: somebody has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
