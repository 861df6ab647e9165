"""One worker process as its supervisor sees it: started, looked at, signalled, reaped. What to do when is the supervisor's matter."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import attrs
import msgspec

from flowq._runtime import overrun
from flowq.cli import board
from flowq.cli.restarts import Restarts
from flowq.cli.settings import RunSettings, send

TWICE: Final = 0.005
"""Seconds after which a deadline that seems to have passed is looked at again: its two fields are not stored in one piece."""


@attrs.define(eq=False)
class Child:
    """One place for a worker process: its process now, if there is one, and what is kept over restarts."""

    index: int
    pulse: board.PulseFile
    deadlines: Path
    """See ``_runtime.overrun``."""
    restarts: Restarts = attrs.field(factory=Restarts)
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    started: float = 0.0
    restart_at: float | None = None
    killed_for: str = ""
    """Why the supervisor itself killed it; empty: it did not."""
    replaced_by: float | None = None
    """Monotonic seconds by which it must have ended, because the code changed; another one then takes its place at once."""
    code: int | None = None
    """How it ended for good."""

    @property
    def is_replaced(self) -> bool:
        return self.replaced_by is not None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def start(self, command: tuple[str, ...], settings: RunSettings) -> None:
        """Start a process in this place. From the main thread: on Linux the child dies with the thread that started it."""
        self.pulse.write(board.Pulse())
        overrun.create(self.deadlines)
        self.killed_for = ""
        self.replaced_by = None
        read, write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*command, str(read)],
                stdin=subprocess.DEVNULL,
                pass_fds=(read,),
                # of its own: Ctrl-C in the terminal is told to the supervisor only, which drains
                process_group=0,
                env={**os.environ, overrun.VARIABLE: str(self.deadlines), board.PULSE: str(self.pulse.path)},
            )
        finally:
            os.close(read)
        self.lifeline = write
        self.started = time.monotonic()
        send(msgspec.structs.replace(settings, index=self.index, supervisor=os.getpid()), write)

    def was_reaped(self, code: int) -> float:
        """It has ended with this code. Returns how long it lived, in seconds."""
        assert self.process is not None
        self.process.returncode = code  # it was reaped elsewhere, so Popen must not try to
        os.close(self.lifeline)
        return time.monotonic() - self.started

    def overdue_bodies(self) -> int:
        """Limited bodies that run past this process' published deadline; 0: none."""
        late = {p.slot for p in overrun.read(self.deadlines) if p.is_overdue(board.clock())}
        if not late:
            return 0
        time.sleep(TWICE)
        return sum(
            p.bodies for p in overrun.read(self.deadlines) if p.slot in late and p.is_overdue(board.clock())
        )

    def send(self, number: signal.Signals) -> None:
        """Signal it. Not reaped yet, so the id is still its own. SIGKILL goes to its whole group: what bodies have started ends too."""
        if number is signal.SIGKILL:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass  # between fork and setpgid, or only a zombie is left
            else:
                return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return
