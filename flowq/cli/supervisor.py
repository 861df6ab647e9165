"""The parent of ``flowq run``: starts worker processes, watches them, ends them. It imports no user code and runs no event loop.

- A worker process that died is started again with backoff; five deaths within a minute end the supervisor, so that whoever runs
  it sees a crash loop. Ends that a restart would only repeat (an import error, a wrong password) end it at once.
- A worker process whose published lease deadline has passed with limited bodies in it is killed, whatever it is doing: C code that
  holds the GIL, or a SIGSTOP. Its whole process group goes, so that programs which bodies have started go with it.
- SIGTERM, SIGINT and SIGHUP are passed on as "drain"; the second one skips the grace, the third one kills. Whoever is left after
  ``grace + cancel_grace + 5`` seconds is killed.
- As process 1 of a container it also reaps the orphans that end up with it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from flowq.cli import board, metrics
from flowq.cli.children import Child
from flowq.cli.exits import FATAL, Exit, worst
from flowq.cli.probes import Probes, Report
from flowq.cli.reload import Watch
from flowq.cli.restarts import Deaths
from flowq.cli.said import report, tell_end
from flowq.cli.settings import RunSettings

logger = logging.getLogger("flowq.supervisor")

TICK: Final = 0.1
"""Seconds between two looks at the published deadlines: a kill is at most this late, and what the machine adds."""
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """Runs ``settings`` in ``processes`` worker processes until it is told to stop, or they end.

    Args:
        settings: what each of them is told.
        processes: how many.
        run_dir: see ``board``.
        health_port: of the probes; None: only the unix socket.
        reload: for development: told of changed files, it replaces the worker processes, and no end of one ends the supervisor.
        command: starts a worker process; the pipe's number is appended. For tests.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        processes: int,
        run_dir: Path,
        health_port: int | None = None,
        reload: Watch | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "flowq.cli.child"),
    ) -> None:
        self._figures = run_dir / "app.figures"
        self._has_metrics = health_port is not None and metrics.is_available()
        if self._has_metrics:
            settings = msgspec.structs.replace(settings, metrics=str(self._figures))
        self._settings = settings
        self._command = command
        self._reload = reload
        self._children = [
            Child(i, board.PulseFile(run_dir / f"{i}.pulse", create=True), run_dir / f"{i}.deadlines")
            for i in range(processes)
        ]
        self._by_pid: dict[int, Child] = {}
        self._deaths = Deaths()
        self._signals = 0
        self._signals_handled = 0
        self._stop_at: float | None = None
        self._final: int | None = None
        self.probes = Probes(self.report, port=health_port, path=run_dir / "health.sock")
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Supervise; returns the exit code. Call it from the main thread: signals, and the children's fate, hang on it."""
        undo = self._take_signals()
        self.probes.register(self._selector)
        try:
            self._start(self._children[0])
            others = self._children[1:]
            while not self._done(others):
                if others and (self._stopping or self._children[0].pulse.read().loaded):
                    # the first one has shown that the app can be imported: an import error is told once
                    for child in others if not self._stopping else ():
                        self._start(child)
                    others = []
                self._wait()
                self._reap()
                self._obey()
                self._look()
            return self._exit_code()
        finally:
            self._kill_all("the supervisor ends")
            self.probes.close()
            undo()

    # --- the loop's parts -------------------------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._stop_at is not None

    def _done(self, others: list[Child]) -> bool:
        started = [c for c in self._children if c not in others]
        if self._by_pid:
            return False
        return self._stopping or all(c.code is not None for c in started)

    def _wait(self) -> None:
        for key, _ in self._selector.select(TICK):
            if key.data is self.probes:
                self.probes.handle(key.fileobj)
            elif isinstance(key.fileobj, socket.socket):
                key.fileobj.recv(4096)
        self.probes.expire()

    def _look(self) -> None:
        """Kill who has overrun its lease, or its time to stop; start again who has waited long enough."""
        now = time.monotonic()
        for child in self._by_pid.values():
            if not child.killed_for and (bodies := child.overdue_bodies()):
                self._kill(child, f"its lease ended with {bodies} limited bodies in it")
            elif child.replaced_by is not None and now >= child.replaced_by:
                self._kill(child, f"it did not end within {self._settings.patience:g} s of a changed file")
        if self._stop_at is not None and now >= self._stop_at:
            self._kill_all(f"it did not end within {self._settings.patience:g} s")
        if self._reload is not None and not self._stopping and (files := self._reload.changed()):
            self._replace_all(files, now)
        for child in self._children:
            if child.restart_at is not None and now >= child.restart_at and not self._stopping:
                child.restart_at = None
                self._start(child)
                logger.info(
                    "worker process %d is started again as %d",
                    child.index,
                    child.pid,
                    extra={"event": "child.restarted", "facts": {"index": child.index, "child": child.pid}},
                )

    def _replace_all(self, files: list[str], now: float) -> None:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        logger.info(
            "%s%s changed: the worker processes are replaced",
            files[0],
            more,
            extra={"event": "supervisor.reloading", "facts": {"files": files}},
        )
        for child in self._children:
            if child.pid in self._by_pid:
                child.replaced_by = child.replaced_by or now + self._settings.patience
                child.send(signal.SIGTERM)
            elif child.started:
                # it has ended: at an import error, most often
                child.restart_at = now

    def _obey(self) -> None:
        while self._signals_handled < self._signals:
            self._signals_handled += 1
            if self._signals_handled == 1:
                logger.info(
                    "stopping: %s for up to %g s; a second signal skips that",
                    "1 worker process drains"
                    if len(self._by_pid) == 1
                    else f"{len(self._by_pid)} worker processes drain",
                    self._settings.grace,
                    extra={"event": "supervisor.stopping"},
                )
                self._stop(self._settings.patience)
            elif self._signals_handled == 2:
                logger.info("second signal: the grace is skipped", extra={"event": "supervisor.stopping"})
                self._stop(self._settings.patience - self._settings.grace)
            else:
                self._kill_all("third signal")

    def _stop(self, patience: float) -> None:
        self._stop_at = time.monotonic() + patience
        for child in self._by_pid.values():
            child.send(signal.SIGTERM)

    # --- processes --------------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> None:
        child.start(self._command, self._settings)
        self._by_pid[child.pid] = child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._by_pid.pop(pid, None)
            if child is not None:  # else an orphan that process 1 has inherited
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        inside = child.pulse.read().running
        lived = child.was_reaped(code)
        if (self._stopping or child.is_replaced) and code == -signal.SIGTERM:
            code = Exit.OK  # told to stop before it had begun
        tell_end(child, code, bodies=inside, is_wanted=self._stopping or child.is_replaced)
        if self._stopping or (self._settings.burst and code in {Exit.OK, Exit.CUT_OFF, Exit.BURST_DEAD}):
            child.code = Exit.FAILED if code < 0 else code
            return
        if self._reload is not None:
            if child.is_replaced or code == Exit.OK:
                child.restart_at = time.monotonic()
            elif code != Exit.OK:
                logger.info("waiting for a change", extra={"event": "supervisor.waiting"})
        elif code in FATAL or (self._settings.burst and code == Exit.UNAVAILABLE):
            child.code = code
            self._give_up(code)
        elif code != Exit.OK and self._deaths.count(time.monotonic()):
            child.code = Exit.CRASH_LOOP
            logger.critical(
                "five worker processes died within a minute: giving up",
                extra={"event": "supervisor.gave_up"},
            )
            self._give_up(Exit.CRASH_LOOP)
        else:
            child.restart_at = time.monotonic() + child.restarts.wait(lived)

    def _give_up(self, code: int) -> None:
        if self._final is None:
            self._final = code
        if not self._stopping:
            self._stop(self._settings.patience)

    def _kill(self, child: Child, why: str) -> None:
        child.killed_for = child.killed_for or why
        child.send(signal.SIGKILL)

    def _kill_all(self, why: str) -> None:
        for child in list(self._by_pid.values()):
            self._kill(child, why)

    # --- what is said of it -----------------------------------------------------------------------------------------------

    def _exit_code(self) -> int:
        codes = [c.code for c in self._children if c.code is not None]
        return worst([*codes, *([self._final] if self._final is not None else [])])

    def report(self) -> Report:
        """What the probes answer now."""
        return report(
            self._children,
            self._by_pid,
            is_stopping=self._stopping,
            max_loop_stall=self._settings.max_loop_stall,
            metrics=self._metrics if self._has_metrics else None,
        )

    def _metrics(self) -> bytes:
        runs = [(child.index, child.pulse.read()) for child in self._children if child.pid in self._by_pid]
        return metrics.render(runs, metrics.read(self._figures))

    def _take_signals(self) -> Callable[[], None]:
        ours, wakeup = socket.socketpair()
        ours.setblocking(False)
        wakeup.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ)
        before_fd = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        before: dict[signal.Signals, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._signals += 1

        for number in _STOP_SIGNALS:
            # nohup has it ignored, and that shall stay
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)

        def undo() -> None:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            ours.close()
            wakeup.close()

        return undo
