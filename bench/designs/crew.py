"""The workers of one design on one server: started, counted, paused, killed; and what their bodies wrote down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs

from bench.conditions import deadline
from bench.designs.candidates import DESIGNS
from bench.designs.design import Design, Job, open_link
from bench.marks import Body
from bench.server import Server

ROOT = Path(__file__).parents[2]
STEADY = 60.0
"""Seconds that a process of a busy machine may take to come up."""


@attrs.define
class Log:
    """The marks, read as they are written."""

    path: Path
    starts: dict[int, list[tuple[float, int]]] = attrs.field(factory=dict)
    """Job → (monotonic seconds, process) of each start."""
    ends: dict[int, list[tuple[float, int]]] = attrs.field(factory=dict)
    up: set[int] = attrs.field(factory=set)
    stats: dict[int, list[Counts]] = attrs.field(factory=dict)
    """Worker → what it said of itself at each signal."""
    last: float = 0.0
    _offset: int = 0

    def read(self) -> None:
        """Take in what is new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            at, pid, what, number, *rest = line.split(" ")
            if what == "stat":
                counts = Counts(float(rest[0]) * 1e6, int(rest[1]), int(rest[2]))
                self.stats.setdefault(int(number), []).append(counts)
            elif what == "up":
                self.up.add(int(number))
            else:
                self.last = float(at)
                seen = self.starts if what == "start" else self.ends
                seen.setdefault(int(number), []).append((float(at), int(pid)))

    def bodies(self, jobs: Iterable[Job], died: dict[int, float]) -> list[Body]:
        """Runs of these jobs; one whose process died in it ends then. One that still runs, or was dropped otherwise, is left out."""
        found = []
        for job in jobs:
            ends = list(self.ends.get(job.number, ()))
            for start, pid in self.starts.get(job.number, ()):
                own = [end for end, by in ends if by == pid and end >= start]
                end = min(own, default=died.get(pid))
                if end is not None:
                    found.append(Body(job.number, pid, start, end))
        return found


@attrs.frozen
class Counts:
    """Of one worker, or summed over several."""

    cpu_us: float = 0.0
    attempts: int = 0
    empty: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.cpu_us + other.cpu_us, self.attempts + other.attempts, self.empty + other.empty)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.cpu_us - other.cpu_us, self.attempts - other.attempts, self.empty - other.empty)


@attrs.define
class Crew:
    """See the module."""

    name: str
    server: Server
    backend: str
    folder: Path
    slots: int
    recovers: bool = True
    urls: Sequence[str] = ()
    """Each worker's way to the server, if not the straight one."""
    processes: dict[int, subprocess.Popen[bytes]] = attrs.field(factory=dict)
    """Worker → process, the living ones."""
    died: dict[int, float] = attrs.field(factory=dict)
    """Process id → when it was killed."""
    log: Log = attrs.field(init=False)
    numbers: int = 0
    """Jobs made so far."""

    def __attrs_post_init__(self) -> None:
        self.log = Log(self.folder / "marks")

    def start_up_to(self, count: int) -> None:
        """Start workers until there are so many, and wait until they are ready."""
        for index in range(len(self.processes), count):
            url = self.urls[index] if self.urls else self.server.url
            environment = {**os.environ, "DESIGNS_URL": url, "BENCH_MARKS": str(self.log.path)}
            words = [self.name, self.backend, str(index), str(self.slots), str(int(self.recovers))]
            with (self.folder / "log").open("ab") as log:
                self.processes[index] = subprocess.Popen(
                    [sys.executable, "-m", "bench.designs.worker", *words],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        limit = deadline(STEADY, f"{count} workers of {self.name} are up")
        while not self.log.up >= set(self.processes):
            for process in self.processes.values():
                if process.poll() is not None:
                    raise RuntimeError(f"a worker of {self.name} ended:\n{self.said()[-4000:]}")
            limit.wait(0.02)
            self.log.read()

    def said(self) -> str:
        """What the workers wrote to stdout and stderr."""
        return (self.folder / "log").read_text()

    def jobs(self, count: int, type_: str = "free", seconds: float = 0.0) -> list[Job]:
        """Fresh jobs, not submitted yet."""
        first = self.numbers
        self.numbers += count
        return [Job.of(first + n, type_, seconds) for n in range(count)]

    def produce(self, function: Callable[[Design], Awaitable[Any]]) -> Any:
        """Run something as a producer, in this process."""

        async def produce() -> Any:
            async with open_link(self.server.url) as link:
                design = DESIGNS[self.name].make(link)
                async with design.opened():
                    return await function(design)

        return anyio.run(produce, backend=self.backend)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store jobs."""
        self.produce(lambda design: design.submit(jobs))

    def ran(self, jobs: Sequence[Job], patience: float) -> list[Job]:
        """Wait until each has run to its end, or nothing has happened for ``patience`` seconds; return those that have not."""
        began = time.monotonic()
        self.log.read()
        missing = [job for job in jobs if job.number not in self.log.ends]
        enough = len(self.log.ends) + len(missing)
        while missing:
            time.sleep(0.02)
            self.log.read()
            silent = time.monotonic() > max(self.log.last, began) + patience
            if silent or len(self.log.ends) >= enough:
                missing = [job for job in missing if job.number not in self.log.ends]
                enough = len(self.log.ends) + len(missing)
            if silent:
                break
        return missing

    def counts(self) -> Counts:
        """CPU time and attempts of all living workers until now."""
        return self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> Counts:
        self.log.read()
        before = {index: len(self.log.stats.get(index, ())) for index in self.processes}
        for process in self.processes.values():
            process.send_signal(number)
        limit = deadline(STEADY, f"the workers of {self.name} answered a signal")
        while any(len(self.log.stats.get(index, ())) == seen for index, seen in before.items()):
            limit.wait(0.002)
            self.log.read()
        return sum((self.log.stats[index][-1] for index in before), Counts())

    @asynccontextmanager
    async def held(self, design: Design) -> AsyncIterator[None]:
        """No worker starts jobs in this block."""
        if not await design.hold(True):
            self._signal(signal.SIGUSR2)
        yield
        if not await design.hold(False):
            for process in self.processes.values():
                process.send_signal(signal.SIGUSR2)

    def kill(self, index: int) -> float:
        """SIGKILL; returns when it was gone."""
        process = self.processes.pop(index)
        process.kill()
        process.wait(10)
        self.died[process.pid] = time.monotonic()
        return self.died[process.pid]

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@contextmanager
def crew_of(
    name: str, server: Server, backend: str, slots: int, *, recovers: bool = True, urls: Sequence[str] = ()
) -> Iterator[Crew]:
    """A crew that is gone when the block ends, with everything in the server."""
    with tempfile.TemporaryDirectory(prefix="fq-designs-") as folder:
        crew = Crew(name, server, backend, Path(folder), slots, recovers, urls)
        try:
            yield crew
        finally:
            crew.end()
            with server.client() as client:
                client.flushall()
