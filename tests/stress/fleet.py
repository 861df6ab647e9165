"""The worker processes of a run: born, hurt, reaped, born again; and the killer's log of it."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import attrs
import psutil  # type: ignore[import-untyped]  # it has no types
import trio

from tests.stress.logbook import Log
from tests.stress.proxy import Link

ROOT = Path(__file__).parents[2]
CONCURRENCY = 48
SAYS = 30.0
"""Seconds within which a supervisor says that its worker has ended."""
UNSAID = 1000
"""The exit code of a worker of which nobody said it."""
PAUSE = 0.2
"""Seconds until somebody who died is replaced."""


@attrs.define(eq=False)
class Slot:
    """One place in the fleet: a worker, and after its death the next one, on the same link."""

    number: int
    backend: str
    supervised: bool
    """Its workers are children of a ``flowq run``; else of this program, as a user's own program runs them."""
    link: Link
    process: subprocess.Popen[bytes]
    """The worker, or its supervisor."""
    pid: int = 0
    """The worker's."""
    born: float = 0.0
    busy: bool = False
    """A fault is being done to it."""
    held: dict[str, int] = attrs.field(factory=dict)
    """What a swallowed reply granted it, by type."""
    reaped: trio.Event = attrs.field(factory=trio.Event)
    """The worker is dead; set as long as there is none."""


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
        self.bodies = folder / "bodies.log"
        """What the bodies write."""
        self.slots: list[Slot] = []
        self.environment = {
            **os.environ,
            "STRESS_TTL": str(ttl),
            "STRESS_BODIES": str(self.bodies),
            "STRESS_JOBS": str(folder / "jobs.log"),
            "STRESS_SOCKET": str(socket),
        }

    def link(self, number: int) -> Link:
        """The way to the server of one slot, or (number −1) of the producer."""
        return Link(self._socket, random.Random(f"{self._seed} link {number}"))

    async def keep(self, nursery: trio.Nursery, workers: int, supervised: int) -> None:
        """Start so many workers, the last ``supervised`` of them under ``flowq run``; whoever dies is replaced."""
        for number in range(workers):
            link = self.link(number)
            await nursery.start(link.serve)
            backend = self._backends[number % len(self._backends)]
            under = number >= workers - supervised
            slot = Slot(number, backend, under, link, self._bear(number, backend, link.url, supervised=under))
            slot.reaped.set()
            self.slots.append(slot)
            nursery.start_soon(self._watch, slot)

    async def _watch(self, slot: Slot) -> None:
        while True:
            if slot.supervised:
                await self._watch_children(slot)
            else:
                self._note_birth(slot, slot.process.pid)
                code, at = await trio.to_thread.run_sync(_reap, slot.process, abandon_on_cancel=True)
                self._note_death(slot, at, code, "")
            await trio.sleep(PAUSE)
            if self._closing:
                return
            slot.process = self._bear(slot.number, slot.backend, slot.link.url, supervised=slot.supervised)

    async def _watch_children(self, slot: Slot) -> None:
        """The lives of one supervisor's workers; ends with the supervisor."""
        supervisor = psutil.Process(slot.process.pid)
        last = 0
        while slot.process.poll() is None:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                for child in supervisor.children():
                    # a worker leads a process group of its own; what a library runs for a moment does not
                    is_worker = os.getpgid(child.pid) == child.pid
                    if is_worker and child.pid != last and child.status() != psutil.STATUS_ZOMBIE:
                        last = child.pid
                        self._note_birth(slot, child.pid)
                        at = await trio.to_thread.run_sync(_wait_gone, child.pid, abandon_on_cancel=True)
                        self._note_death(slot, at, *await self._said(slot, child.pid))
            await trio.sleep(0.01)
        self._events.event(
            "supervisor", at=time.monotonic(), pid=slot.process.pid, slot=slot.number, code=slot.process.returncode
        )  # fmt: skip

    async def _said(self, slot: Slot, pid: int) -> tuple[int, str]:
        """How a supervisor says that its worker ended: the exit code, and why it killed it itself if it did."""
        log = self._folder / f"worker-{slot.number}.log"
        with trio.move_on_after(SAYS):
            while True:
                # looked at before the log is read: what it said before its end is in there then
                code = slot.process.poll()
                for line in log.read_text().splitlines():
                    if f"({pid}) was killed by SIG" in line:
                        number = signal.Signals[line.partition("killed by ")[2].split()[0]]
                        return -number, line.partition(" in it: ")[2]
                    if f"({pid}) ended with exit code " in line:
                        return int(re.findall(r"exit code (\d+)", line)[0]), ""
                if code is not None:
                    # a supervisor that was killed says nothing, and takes its worker along; of a good end it says nothing either
                    return (-9 if code == -9 else 0), ""
                await trio.sleep(0.02)
        return UNSAID, "its supervisor did not say why"

    def _note_birth(self, slot: Slot, pid: int) -> None:
        slot.pid, slot.born, slot.held, slot.reaped = pid, time.monotonic(), {}, trio.Event()
        how = f"{slot.backend}, flowq run" if slot.supervised else slot.backend
        self._events.event("birth", at=slot.born, pid=pid, slot=slot.number, how=how)

    def _note_death(self, slot: Slot, at: float, code: int, how: str) -> None:
        self._events.event("death", at=at, pid=slot.pid, slot=slot.number, code=code, how=how, held=slot.held)
        slot.reaped.set()

    def _bear(self, number: int, backend: str, url: str, *, supervised: bool) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.stress.worker", backend, str(CONCURRENCY)]
        if supervised:
            command = [
                sys.executable, "-m", "flowq", "run", "tests.stress.app:app", "--backend", backend, "-c", str(CONCURRENCY), "-p", "1",
            ]  # fmt: skip
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment | {"FLOWQ_URL": url}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, slot: Slot, how: str, held: dict[str, int] | None = None) -> None:
        """SIGKILL to the worker, at once. Its death follows in the log, when it was reaped."""
        at = time.monotonic()
        self._signal(slot, signal.SIGKILL)
        slot.held = held or {}
        self._events.event("kill", at=at, pid=slot.pid, slot=slot.number, how=how)

    def kill_supervisor(self, slot: Slot) -> None:
        """SIGKILL to the supervisor: its worker must not outlive it."""
        at = time.monotonic()
        slot.process.kill()
        self._events.event("kill", at=at, pid=slot.pid, slot=slot.number, how="with its supervisor")

    def stop(self, slot: Slot) -> float:
        """SIGSTOP; returns when it was sent."""
        at = time.monotonic()
        self._signal(slot, signal.SIGSTOP)
        return at

    def go_on(self, slot: Slot) -> None:
        """SIGCONT."""
        self._signal(slot, signal.SIGCONT)

    def _signal(self, slot: Slot, number: signal.Signals) -> None:
        if not slot.reaped.is_set():
            with suppress(ProcessLookupError):
                os.kill(slot.pid, number)

    def tell_to_stop(self, slot: Slot) -> None:
        """SIGTERM, to the supervisor if there is one: it drains."""
        self._events.event("term", at=time.monotonic(), pid=slot.pid, slot=slot.number)
        slot.process.terminate()

    async def close(self) -> None:
        """SIGTERM to all, and wait until they have gone; nobody is replaced any more."""
        self._closing = True
        for slot in self.slots:
            self.tell_to_stop(slot)
        with trio.move_on_after(30):
            for slot in self.slots:
                await trio.to_thread.run_sync(slot.process.wait, abandon_on_cancel=True)
                await slot.reaped.wait()
            await trio.sleep(0.1)

    def end(self) -> None:
        """Kill what is left, whatever state it is in."""
        self._closing = True
        for slot in self.slots:
            self._signal(slot, signal.SIGKILL)
            if slot.process.poll() is None:
                slot.process.kill()
            slot.process.wait()


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for its end: the exit code, and when that was known."""
    code = process.wait()
    return code, time.monotonic()


def _wait_gone(pid: int) -> float:
    """Wait until somebody else's child has ended, whether or not it was reaped; returns when."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return time.monotonic()
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        return time.monotonic()
    finally:
        os.close(handle)
