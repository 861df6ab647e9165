"""Worker processes of a test, their signals, and when each died; and what a test waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import attrs
import redis

import flowq
from tests.conftest import RedisServer
from tests.crash import witness

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
    seen = folder / "witness.log"
    seen.touch()
    fleet = Fleet(url=url, witness=seen, log=folder / "workers.log", ttl=ttl)
    try:
        yield fleet
    finally:
        fleet.end()


async def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is seen."""
    with anyio.move_on_after(seconds):
        while not true():  # noqa: ASYNC110 -- it happens in other processes
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"not seen within {seconds} s: {what}")


def at_rest(client: redis.Redis) -> list[str]:
    """What contradicts "nothing is outstanding", from the server's side."""
    wrong: list[str] = []
    for key in client.scan_iter(match="flowq:{crash}:s:*"):
        if client.xlen(key):
            wrong.append(f"{key} holds {client.xlen(key)} entries")
        wrong += [f"{key}: {group}" for group in client.xinfo_groups(key) if group["pending"]]
    for name in ("delayed", "delayed:d", "moved", "cancels", "orphans", "expired"):
        if client.exists(f"flowq:{{crash}}:{name}"):
            wrong.append(f"{name} is not empty")
    return wrong


async def submit(url: str, task: str, *calls: tuple[object, ...]) -> None:
    app = flowq.App("crash", url=url)
    async with app:
        for call in calls:
            await app.enqueue(task, *call)


async def all_done(fleet: Fleet, task: str, count: int, seconds: float) -> list[witness.Body]:
    """Wait until each of the jobs 0 … count-1 ran to its end; then until Redis has heard of it."""

    def seen() -> bool:
        return len(witness.completions(witness.read(fleet.witness), task)) == count

    await until(seen, seconds, f"{count} {task} jobs done\n{fleet.log.read_text()[-3000:]}")
    return witness.read(fleet.witness)


async def settled(server: RedisServer) -> None:
    with server.client() as client:
        await until(lambda: not at_rest(client), 5, f"everything settled: {at_rest(client)}")


async def start_and_wait(fleet: Fleet, server: RedisServer, backend: str, count: int) -> list[int]:
    """Start workers; wait until all have joined and the quarantine of a server that nobody knows is over."""
    pids = [fleet.start(backend) for _ in range(count)]
    with server.client() as client:
        await until(lambda: client.zcard("flowq:{crash}:members") == count + 1, 20, "all workers joined")
    return pids
