"""Worker processes of ``bench.app``: started, waited for, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

import flowq
from bench.conditions import deadline
from bench.marks import Mark, read
from bench.server import Server
from flowq.backends.redis.keys import Keys, app_prefix

ROOT = Path(__file__).parents[1]
STEADY = 60.0
"""Seconds that a process of a busy machine may take to come up."""


@attrs.define
class Fleet:
    """The workers of one app on one server."""

    server: Server
    backend: str
    folder: Path
    ttl: float = 10.0
    app: str = "bench"
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    @property
    def marks(self) -> Path:
        """What the bodies wrote down."""
        return self.folder / "marks"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Of a process that works for, or submits to, this fleet."""
        return {
            **os.environ,
            "FLOWQ_URL": url or self.server.url,
            "BENCH_APP": self.app,
            "BENCH_TTL": str(self.ttl),
            "BENCH_MARKS": str(self.marks),
        }

    def start(
        self, command: Sequence[str] = (), *, url: str | None = None, concurrency: int = 32
    ) -> subprocess.Popen[bytes]:
        """Start one worker, and wait until it is a member.

        Args:
            command: what to run instead of ``python -m bench.worker``.
            url: its way to the server, if not the straight one.
            concurrency: of ``bench.worker``.
        """
        words = command or (sys.executable, "-m", "bench.worker", self.backend, str(concurrency))
        before = self.members
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=self.environment(url),
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        limit = deadline(STEADY, "a worker process has joined")
        while self.members <= before:
            if process.poll() is not None:
                raise RuntimeError(f"a worker process ended at once:\n{self.log.read_text()[-3000:]}")
            limit.wait()
        return process

    @property
    def members(self) -> int:
        """Live ones, without the sentinel."""
        with self.server.client() as client:
            return max(0, int(_now(client.zcard(Keys(app_prefix(self.app)).members))) - 1)

    def submit(self, task: str, calls: Iterable[tuple[object, ...]], *, delay: float = 0.0) -> None:
        """Store jobs, from this process."""
        app = flowq.App(self.app, url=self.server.url)
        handle = app.ref(task).options(delay=delay) if delay else app.ref(task)
        with app.sync() as producer:
            producer.enqueue_many([handle.bind(*call) for call in calls])

    def warm_up(self) -> None:
        """Wait until limited tasks may start, which after a server's start is one lease later."""
        number = -time.monotonic_ns()
        self.submit("wait", [(number, 0.0)])
        limit = deadline(self.ttl + STEADY, "a limited job has run")
        while not (
            self.marks.exists() and any(m.number == number and m.what == "end" for m in read(self.marks))
        ):
            limit.wait(0.05)

    def wait_for(self, what: str, count: int, seconds: float) -> list[Mark]:
        """Wait until so many marks of that kind are there (those of ``warm_up`` do not count)."""
        limit = deadline(seconds, f"{count} marks {what!r} were there")
        while True:
            found = [m for m in (read(self.marks, what) if self.marks.exists() else []) if m.number >= 0]
            if len(found) >= count:
                return found
            limit.wait(0.02)

    def drop(self, task: str) -> None:
        """Take away what waits of a task, and wait until what runs of it has ended."""
        keys, group = Keys(app_prefix(self.app)), "flowq"
        with self.server.client() as client:
            stream = keys.stream(task)
            client.xtrim(stream, maxlen=0, approximate=False)
            limit = deadline(30, f"what runs of {task} has ended")
            while _now(client.xpending(stream, group))["pending"]:
                limit.wait()

    def forget(self) -> None:
        """Begin the marks anew."""
        if self.marks.exists():
            os.truncate(self.marks, 0)

    def end(self) -> None:
        """Kill what is left, with whatever it started."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def _now(reply: Any) -> Any:
    """redis-py annotates one class for its plain and its async client; here it is the plain one."""
    return reply


@contextmanager
def fleet_of(server: Server, backend: str, *, ttl: float = 10.0, app: str = "bench") -> Iterator[Fleet]:
    """A fleet that is gone when the block ends, with its jobs."""
    with tempfile.TemporaryDirectory(prefix="fq-fleet-") as folder:
        fleet = Fleet(server, backend, Path(folder), ttl, app)
        try:
            yield fleet
        finally:
            fleet.end()
            with server.client() as client:
                if keys := list(client.scan_iter(match=app_prefix(app) + "*", count=1000)):
                    client.unlink(*keys)
