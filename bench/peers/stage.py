"""One contestant on the run's server: its worker processes, its producers, and what their bodies wrote down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from bench.conditions import Gone
from bench.peers import environment
from bench.peers.peer import ADAPTERS, Contestant
from bench.server import Server

LOOK = 0.01
"""Seconds between two looks at the tallies."""
TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Mark:
    """One line that a body wrote: ``what`` is ``probe`` (seconds), or ``hold``, ``begin`` or ``end`` (the job's number)."""

    at: float
    pid: int
    what: str
    value: float


@attrs.frozen
class Tally:
    """What the bodies of all threads of one worker process and its children counted."""

    first: float
    bodies: int
    last: float


@attrs.define
class Stage:
    """Where a contestant plays."""

    contestant: Contestant
    settings: dict[str, Any]
    server: Server
    folder: Path
    workers: list[subprocess.Popen[bytes]] = attrs.field(factory=list)
    remarks: list[str] = attrs.field(factory=list)
    through: int | None = None
    """The port by which what is started finds Redis, if not the server's own."""

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> subprocess.Popen[bytes]:
        """One more worker process, in a process group of its own."""
        peer = self.contestant.peer
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*environment.command(peer), "work"],
                cwd=ADAPTERS,
                env=self._variables(len(self.workers)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def produce(self, command: str, order: dict[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """Run a producer (``enqueue`` or ``feed``) and return what it did."""
        with self.producer(command, order) as process:
            try:
                out, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise Gone(f"its producer took more than {timeout:g} s") from None
        lines = out.splitlines()
        if process.returncode < 0 and lines:
            self.remark(
                f"a producer that had done its work died of {signal.Signals(-process.returncode).name}"
            )
        elif process.returncode != 0:
            raise Gone(f"its producer ended with {process.returncode}: {self.said()}")
        said: dict[str, Any] = json.loads(lines[-1])
        return said

    def remark(self, text: str) -> None:
        """Something that a reader of its figures should know."""
        if text not in self.remarks:
            self.remarks.append(text)

    @contextmanager
    def producer(self, command: str, order: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
        """A producer that is gone at the end of the block."""
        words = [*environment.command(self.contestant.peer), command, json.dumps(order)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=ADAPTERS,
                env=self._variables(0),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            _end(process, signal.SIGKILL, 10)
            if process.stdout is not None:
                process.stdout.close()

    def _variables(self, worker: int) -> dict[str, str]:
        port = self.through or self.server.port
        settings = {
            **self.settings,
            **self.contestant.options,
            "url": f"redis://127.0.0.1:{port}/0",
            "host": "127.0.0.1",
            "port": port,
        }
        return {
            **os.environ,
            **environment.variables(self.contestant.peer),
            "BENCH_SETTINGS": json.dumps(settings),
            "BENCH_EVIDENCE": str(self.folder),
            "BENCH_WORKER": str(worker),
        }

    def tallies(self) -> list[Tally]:
        """One for each worker process that has run a body, in their order."""
        by_worker: dict[int, list[tuple[float, float, float]]] = {}
        for path in self.folder.glob("tally-*"):
            data = path.read_bytes()
            if len(data) == 24 and (cells := struct.unpack("<3d", data))[1]:
                by_worker.setdefault(int(path.name.split("-")[1]), []).append(cells)
        return [
            Tally(min(c[0] for c in found), int(sum(c[1] for c in found)), max(c[2] for c in found))
            for _, found in sorted(by_worker.items())
        ]

    def ran(self) -> int:
        """Bodies so far, of all workers."""
        return sum(tally.bodies for tally in self.tallies())

    def marks(self, what: str) -> list[Mark]:
        """In the order in which they were made."""
        path = self.folder / "marks"
        if not path.exists():
            return []
        found = []
        for line in path.read_text().splitlines():
            at, pid, kind, value = line.split(" ")
            if kind == what:
                found.append(Mark(float(at), int(pid), kind, float(value)))
        return sorted(found, key=lambda mark: mark.at)

    def forget(self) -> None:
        """Throw away evidence and everything in Redis."""
        for path in [*self.folder.glob("tally-*"), self.folder / "marks"]:
            path.unlink(missing_ok=True)
        with self.server.client() as client:
            client.flushall()

    def check_alive(self) -> None:
        """Raise if a worker has ended."""
        for process in self.workers:
            if process.poll() is not None:
                raise Gone(f"its worker ended with {process.returncode}: {self.said()}")

    def said(self) -> str:
        """The last words of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " / ".join(lines[-4:])[-500:]

    def _processes(self) -> Iterator[tuple[Path, list[str]]]:
        """Of the workers' groups: the folder in /proc, and the fields of ``stat`` behind the name."""
        groups = {str(process.pid) for process in self.workers}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if fields[2] in groups:
                    yield path.parent, fields

    def cpu_us(self) -> float:
        """User and system time of all processes of the workers' groups, µs."""
        return sum(int(fields[11]) + int(fields[12]) for _, fields in self._processes()) / TICK * 1e6

    def resident(self) -> float:
        """Their memory in MiB, what they share counted once."""
        total = 0
        for folder, _ in self._processes():
            with contextlib.suppress(OSError):
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    def stop(self) -> None:
        """End all workers; what they leave in Redis is no matter."""
        for process in self.workers:
            _end(process, signal.SIGTERM, 5)
        self.workers.clear()


@contextmanager
def stage_of(contestant: Contestant, settings: dict[str, Any], server: Server) -> Iterator[Stage]:
    """A stage without workers; at the end of the block they are gone, and Redis is empty."""
    with tempfile.TemporaryDirectory(prefix="fq-peers-") as name:
        stage = Stage(contestant, settings, server, Path(name))
        stage.forget()
        try:
            yield stage
        finally:
            stage.stop()
            stage.forget()


def _end(process: subprocess.Popen[bytes], how: signal.Signals, patience: float) -> None:
    """End the process, and then whatever is left of its group."""
    if process.poll() is None:
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(stage: Stage, what: str, seconds: float, *, until: Any) -> None:
    """Until ``until()`` is true.

    Raises:
        Gone: it took longer than ``seconds``, or a worker ended.
    """
    limit = time.monotonic() + seconds
    while not until():
        stage.check_alive()
        if time.monotonic() > limit:
            raise Gone(f"{what} was not so after {seconds:.0f} s: {stage.said()}")
        time.sleep(LOOK)
