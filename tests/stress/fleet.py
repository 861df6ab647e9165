"""The worker processes of a run: born, hurt, reaped, born again; and the killer's log of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import trio

from tests.stress.logbook import Log
from tests.stress.proxy import Link

ROOT = Path(__file__).parents[2]
CONCURRENCY = 48
PAUSE = 0.2
"""Seconds until somebody who died is replaced."""


@attrs.define(eq=False)
class Slot:
    """One place in the fleet: a worker, and after its death the next one, on the same link."""

    number: int
    backend: str
    link: Link
    process: subprocess.Popen[bytes]
    born: float
    busy: bool = False
    """A fault is being done to it."""
    held: dict[str, int] = attrs.field(factory=dict)
    """What a swallowed reply granted it, by type."""
    reaped: trio.Event = attrs.field(factory=trio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid


class Fleet:
    """Keeps a worker in each slot; whoever dies is replaced."""

    def __init__(
        self, folder: Path, events: Log, *, backend: str, ttl: float, socket: Path, seed: int
    ) -> None:
        self._folder = folder
        self._events = events
        self._socket = socket
        self._seed = seed
        self._backends = ("trio", "asyncio") if backend == "mixed" else (backend,)
        self._closing = False
        self.slots: list[Slot] = []
        self.environment = {
            **os.environ,
            "STRESS_TTL": str(ttl),
            "STRESS_BODIES": str(folder / "bodies.log"),
            "STRESS_JOBS": str(folder / "jobs.log"),
            "STRESS_SOCKET": str(socket),
        }

    def link(self, number: int) -> Link:
        """The way to the server of one slot, or (number −1) of the producer."""
        return Link(self._socket, random.Random(f"{self._seed} link {number}"))

    async def keep(self, nursery: trio.Nursery, workers: int) -> None:
        """Start so many workers, each to be replaced by ``nursery``'s care when it dies."""
        for number in range(workers):
            link = self.link(number)
            await nursery.start(link.serve)
            backend = self._backends[number % len(self._backends)]
            slot = Slot(number, backend, link, self._bear(number, backend, link.url), time.monotonic())
            self.slots.append(slot)
            nursery.start_soon(self._watch, slot)

    async def _watch(self, slot: Slot) -> None:
        while True:
            self._events.event("birth", at=slot.born, pid=slot.pid, slot=slot.number, how=slot.backend)
            code, at = await trio.to_thread.run_sync(_reap, slot.process, abandon_on_cancel=True)
            self._events.event("death", at=at, pid=slot.pid, slot=slot.number, code=code, held=slot.held)
            slot.reaped.set()
            await trio.sleep(PAUSE)
            if self._closing:
                return
            slot.process = self._bear(slot.number, slot.backend, slot.link.url)
            slot.born, slot.held, slot.reaped = time.monotonic(), {}, trio.Event()

    def _bear(self, number: int, backend: str, url: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.stress.worker", backend, str(CONCURRENCY)]
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment | {"FLOWQ_URL": url}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, slot: Slot, how: str, held: dict[str, int] | None = None) -> None:
        """SIGKILL, at once. Its death follows in the log, when it was reaped."""
        at = time.monotonic()
        slot.process.kill()
        slot.held = held or {}
        self._events.event("kill", at=at, pid=slot.pid, slot=slot.number, how=how)

    def stop(self, slot: Slot) -> float:
        """SIGSTOP; returns when it was sent."""
        at = time.monotonic()
        slot.process.send_signal(signal.SIGSTOP)
        return at

    def go_on(self, slot: Slot) -> None:
        """SIGCONT."""
        slot.process.send_signal(signal.SIGCONT)

    def tell_to_stop(self, slot: Slot) -> None:
        """SIGTERM: it drains."""
        self._events.event("term", at=time.monotonic(), pid=slot.pid, slot=slot.number)
        slot.process.terminate()

    async def close(self) -> None:
        """SIGTERM to all, and wait until they have gone; nobody is replaced any more."""
        self._closing = True
        for slot in self.slots:
            self.tell_to_stop(slot)
        with trio.move_on_after(30):
            for slot in self.slots:
                await slot.reaped.wait()

    def end(self) -> None:
        """Kill what is left, whatever state it is in."""
        self._closing = True
        for slot in self.slots:
            if slot.process.poll() is None:
                slot.process.kill()
            slot.process.wait()


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for its end: the exit code, and when that was known."""
    code = process.wait()
    return code, time.monotonic()
