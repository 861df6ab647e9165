"""Worker processes of a test, their signals, and when each died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]


@attrs.define
class Fleet:
    """Starts workers, hurts them, and keeps the log of what it did."""

    url: str
    witness: Path
    log: Path
    ttl: float
    processes: dict[int, subprocess.Popen[bytes]] = attrs.field(factory=dict)
    died: dict[int, float] = attrs.field(factory=dict)
    stopped: dict[int, float] = attrs.field(factory=dict)

    def start(self, backend: str, *, concurrency: int = 32) -> int:
        """Start a worker; returns its process id."""
        env = {
            **os.environ,
            "FLOWQ_URL": self.url,
            "FLOWQ_WITNESS": str(self.witness),
            "FLOWQ_TEST_TTL": str(self.ttl),
        }
        command = [sys.executable, "-m", "tests.crash.worker", backend, str(concurrency)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[process.pid] = process
        return process.pid

    def kill(self, pid: int) -> float:
        """SIGKILL it and wait until it is gone; returns when that was."""
        process = self.processes[pid]
        process.kill()
        process.wait(10)
        self.died[pid] = time.monotonic()
        return self.died[pid]

    def stop(self, pid: int) -> None:
        """SIGSTOP."""
        self.stopped[pid] = time.monotonic()
        self.processes[pid].send_signal(signal.SIGSTOP)

    def go_on(self, pid: int) -> None:
        """SIGCONT."""
        self.processes[pid].send_signal(signal.SIGCONT)

    def alive(self) -> list[int]:
        return [pid for pid, process in self.processes.items() if process.poll() is None]

    def end(self) -> None:
        for pid, process in self.processes.items():
            if process.poll() is None:
                self.go_on(pid)
                process.kill()
            process.wait(10)
            self.died.setdefault(pid, time.monotonic())


@contextmanager
def fleet_of(url: str, folder: Path, ttl: float) -> Iterator[Fleet]:
    """A fleet that is gone when the block ends."""
    witness = folder / "witness.log"
    witness.touch()
    fleet = Fleet(url=url, witness=witness, log=folder / "workers.log", ttl=ttl)
    try:
        yield fleet
    finally:
        fleet.end()
