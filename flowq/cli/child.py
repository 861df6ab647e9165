"""One worker process of ``flowq run``: ``python -m flowq.cli.child FD``. It imports the app; its supervisor does not.

``FD`` is the pipe over which the settings come (``settings.receive``) and whose end of file means that the supervisor is gone. This
process must not outlive its supervisor: nobody would kill it if it overran its lease.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs
from anyio.abc import TaskGroup

import flowq
from flowq._app import App
from flowq._errors import FlowqError, Unavailable
from flowq._runtime import overrun
from flowq._runtime.keeper import join_threads
from flowq._runtime.worker import Worker
from flowq.cli import logs, metrics
from flowq.cli.board import PULSE, Pulse, PulseFile, clock
from flowq.cli.exits import Exit, exit_of
from flowq.cli.lifeline import end_with_supervisor
from flowq.cli.loading import LoadError, load_app
from flowq.cli.settings import RunSettings, receive

logger = logging.getLogger("flowq.cli")

BEAT: Final = 1.0
"""Seconds between two signs of life of the event loop."""
AGAIN: Final = 1.0
"""Seconds before a start is tried again because no server was there."""
LAST_WORDS: Final = 0.2
"""Seconds that the end waits for the keeper's thread, which may hang on a server that does not answer."""


def main(arguments: list[str]) -> int:
    """Run the worker process; returns its exit code."""
    fd = int(arguments[0])
    try:
        settings = receive(fd)
        end_with_supervisor(settings.supervisor, fd)
    except EOFError:
        return Exit.FAILED
    logs.configure(settings.log_format, settings.log_level)
    # What is imported by now lives until the end, and two thirds of the end would be the collector looking at it once more. The
    # app's objects, which come next, are not frozen: some may need a collection for their last words (a buffered file in a cycle).
    gc.freeze()
    try:
        app = load_app(settings.target)
        app.override(url=settings.url, namespace=settings.namespace, backend=settings.backend)
        app.load()
        backend = app.setting("backend").value
    except LoadError as error:
        return _told(error, Exit.USAGE)
    except FlowqError as error:
        return _told(error, exit_of(error))
    pulse = PulseFile(Path(os.environ[PULSE]))
    pulse.write(Pulse(loaded=True))
    code = anyio.run(WorkerProcess(app, settings, pulse).run, backend=backend)
    join_threads(LAST_WORDS)
    return code


def _told(error: FlowqError, code: Exit) -> Exit:
    logger.error("%s", error, extra={"event": "worker.failed", "facts": {"code": int(code)}})
    return code


@attrs.define(eq=False)
class WorkerProcess:
    """The worker, its signals and its signs of life, in one event loop."""

    app: App[Any]
    settings: RunSettings
    pulse: PulseFile
    worker: Worker | None = None
    stopping: bool = False
    scope: anyio.CancelScope | None = None
    """Around the start, which a signal ends at once."""
    tasks: TaskGroup | None = None
    code: int = Exit.FAILED

    async def run(self) -> int:
        """Serve until told to stop, or until a burst is done."""
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            await tasks.start(self._heed_signals)
            tasks.start_soon(self._beat)
            if self.settings.metrics:
                tasks.start_soon(self._look_out)
            self.code = await self._serve()
            tasks.cancel_scope.cancel()
        return self.code

    def started(self, value: Worker | None = None) -> None:
        """``flowq.run`` calls it (this object is its ``task_status``) when the worker consumes."""
        assert value is not None
        self.worker = value
        # programs that bodies start must not take this worker's place
        for name in (overrun.VARIABLE, PULSE):
            os.environ.pop(name, None)
        self._say_alive()
        if self.stopping:
            self._drain(0.0)

    async def _serve(self) -> int:
        s = self.settings
        while True:
            try:
                with anyio.CancelScope() as self.scope:
                    if self.stopping:
                        return Exit.OK
                    await flowq.run(
                        self.app,
                        concurrency=s.concurrency,
                        threads=s.threads,
                        burst=s.burst,
                        burst_wait=s.burst_wait,
                        grace=s.grace,
                        cancel_grace=s.cancel_grace,
                        start_timeout=s.start_timeout,
                        max_loop_stall=s.max_loop_stall,
                        tasks=s.only,
                        exclude=s.exclude or (),
                        task_status=self,
                    )
                return self._how_it_went()
            except Unavailable as error:
                if self.worker is not None or s.burst:
                    return _told(error, Exit.UNAVAILABLE)
                logger.warning("%s; trying again", error, extra={"event": "worker.waiting"})
                await anyio.sleep(AGAIN)
            except FlowqError as error:
                return _told(error, exit_of(error))
            except Exception as error:  # the app's lifespan may raise anything, and a defect of ours too
                logger.critical(
                    "the worker failed: %r", error, exc_info=error, extra={"event": "worker.failed"}
                )
                return Exit.FAILED

    def _how_it_went(self) -> Exit:
        if self.worker is None:
            return Exit.OK
        stats = self.worker.stats()
        if stats.cut_off:
            return Exit.CUT_OFF
        return Exit.BURST_DEAD if self.settings.burst and stats.dead else Exit.OK

    # --- from outside -----------------------------------------------------------------------------------------------------

    async def _heed_signals(self, *, task_status: Any) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                grace = 0.0 if self.stopping else self.settings.grace
                self.stopping = True
                if self.worker is None and self.scope is not None:
                    self.scope.cancel()
                elif self.worker is not None:
                    self._drain(grace)

    def _drain(self, grace: float) -> None:
        assert self.worker is not None
        assert self.tasks is not None
        self.tasks.start_soon(partial(self.worker.drain, grace=grace))

    async def _beat(self) -> None:
        while True:
            self._say_alive()
            await anyio.sleep(BEAT)

    async def _look_out(self) -> None:
        """For ``/metrics``: leave the app's figures where the supervisor finds them."""
        url = self.app.setting("url").value
        if not url or url.startswith("memory://"):
            return
        s = self.settings
        lookout = metrics.Lookout(
            Path(s.metrics), s.index, url, self.app.name, self.app.setting("namespace").value
        )
        said_at = -math.inf
        try:
            while True:
                try:
                    await anyio.to_thread.run_sync(lookout.look, abandon_on_cancel=True)
                except FlowqError as error:
                    said_at = metrics.say(error, said_at)
                await anyio.sleep(metrics.LOOK_EVERY)
        finally:
            lookout.close()

    def _say_alive(self) -> None:
        now = clock()
        if self.worker is None:
            self.pulse.write(Pulse(at=now, loaded=True, draining=self.stopping))
            return
        stats = self.worker.stats()
        self.pulse.write(
            Pulse(
                at=now,
                # with every consumer busy it has nothing to ask for
                polled_at=now if stats.running >= self.settings.concurrency else stats.last_answer,
                running=stats.running,
                loaded=True,
                consuming=stats.is_member,
                draining=stats.is_draining,
                concurrency=self.settings.concurrency,
                succeeded=stats.succeeded,
                retried=stats.retried,
                dead=stats.dead,
                cancelled=stats.cancelled,
                handed_back=stats.handed_back,
                stalls=stats.loop_stalls,
                outages=stats.outages,
                leases_lost=stats.leases_lost,
            )
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
