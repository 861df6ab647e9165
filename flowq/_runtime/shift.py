"""One run of a worker, from the moment it is a member: the inner nurseries of the tree, and its three ways to end.

A *drain* closes the intake, hands back what has not started, lets bodies run for their grace with lease, cancels and settles
still alive, then cancels them (reason ``shutdown``). A *cancellation* from outside skips all that. A *failure* of one of our own
tasks is like a cancellation, with the failure raised at the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial

import anyio
from anyio.abc import TaskGroup
from trio.lowlevel import enable_ki_protection

from flowq._errors import ServerError
from flowq._runtime.assembly import Crew
from flowq._runtime.consumer import Consumer
from flowq._runtime.nursery import guarded, open_nursery
from flowq._runtime.options import RunOptions
from flowq._runtime.reader import listen

CLOSING = 1.0
"""Seconds that outcomes and hand-backs get on their way out after a cancellation."""
CLOSING_DRAINED = 2.0
"""The same after a drain that has outcomes to tell: nobody is in such a hurry then."""
LOOK_EVERY = 0.02
"""Seconds between looks whether the last body has left, while draining."""


class Shift:
    """See the module. ``drain`` and ``interrupt`` may be called from any task or callback of the loop."""

    def __init__(self, crew: Crew, options: RunOptions) -> None:
        self._crew = crew
        self._options = options
        self._drain_asked = anyio.Event()
        self._grace_end = math.inf
        self.interrupted: BaseException | None = None
        self.is_draining = False
        self._is_over = False
        self.was_cut = False
        """A cancellation from outside, or a failure, ended it."""
        self.cut_off = 0
        self.handed_back = 0
        """Jobs that had not started when the drain began."""
        self.failure: BaseException | None = None
        """What a task of ours said outside of the nurseries (the keeper's thread)."""
        self._failed = anyio.Event()
        self._bodies: TaskGroup
        self._clean: Context

    # --- asked for ----------------------------------------------------------------------------------------------------------

    def drain(self, grace: float | None = None) -> None:
        """Begin to end, or hurry: the shortest grace asked for holds."""
        seconds = self._options.grace if grace is None else grace
        self._grace_end = min(self._grace_end, self._crew.floor.loop.now() + seconds)
        self.is_draining = True
        self._crew.intake.close()
        self.handed_back += self._crew.floor.release_ready()
        self._drain_asked.set()

    def interrupt(self, error: BaseException) -> None:
        """A KeyboardInterrupt struck a body: drain, and the second time without grace."""
        self.drain(None if self.interrupted is None else 0.0)
        self.interrupted = error

    def fail(self, error: BaseException) -> None:
        self.failure = error
        self._failed.set()

    def after_turn(self) -> None:
        """In burst mode: end when nothing is left."""
        options, crew = self._options, self._crew
        if (
            options.burst
            and not self.is_draining
            and crew.intake.is_exhausted(crew.floor.loop.now(), options.burst_wait)
        ):
            self.drain()

    # --- the inner tree -----------------------------------------------------------------------------------------------------

    async def work(self, started: Callable[[], None]) -> None:
        """Run bodies until drained or cancelled.

        A cancellation from outside reaches the bodies through ``_cut``, so that each can see why it is cancelled.
        """
        async with open_nursery() as outside:
            outside.start_soon(self._notice_cancellation, name="flowq sentinel")
            with anyio.CancelScope(shield=True):
                await self._run_bodies(started)
            outside.cancel_scope.cancel()

    @enable_ki_protection
    async def _notice_cancellation(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not self._is_over:
                self._cut()

    def _cut(self) -> None:
        """End at once: nothing starts, bodies are cancelled, all of it goes back."""
        self.was_cut = True
        self.drain(0.0)
        self._crew.floor.cancel_all("shutdown")

    async def _run_bodies(self, started: Callable[[], None]) -> None:
        crew, options = self._crew, self._options
        async with open_nursery() as bodies:
            self._bodies, self._clean = bodies, copy_context()
            for _ in range(options.concurrency):
                self._add_consumer()
            async with open_nursery() as intake:
                intake.start_soon(
                    guarded, listen, crew.backend, crew.intake, crew.member, name="flowq reader"
                )
                intake.start_soon(guarded, crew.scheduler.run, name="flowq scheduler")
                intake.start_soon(self._raise_failure, name="flowq failures")
                crew.intake.is_open = True
                crew.intake.ask()
                started()
                try:
                    await self._drain_asked.wait()
                except BaseException:
                    # no scope kept it out: asyncio's own cancellation, or trio's KeyboardInterrupt in the main task
                    self._cut()
                    raise
                intake.cancel_scope.cancel()
            await self._let_bodies_leave()
            bodies.cancel_scope.cancel()
        self._is_over = True

    def _add_consumer(self) -> None:
        self._bodies.start_soon(guarded, self._consume, name="flowq consumer")

    async def _consume(self) -> None:
        """A consumer; and the fresh one after it, which must not inherit what a body left in this one's context."""
        if await Consumer(self._crew.floor, self._crew.judge).run():
            self._clean.run(self._add_consumer)

    @enable_ki_protection
    async def _raise_failure(self) -> None:
        await self._failed.wait()
        if self.failure is not None:
            raise self.failure

    async def _let_bodies_leave(self) -> None:
        crew, floor = self._crew, self._crew.floor
        returned = self.handed_back + floor.release_ready()
        floor.events.say(
            logging.INFO, "worker.draining", "no more jobs are taken; %d bodies run, %d jobs go back", floor.running, returned,
            running=floor.running, returned=returned,
        )  # fmt: skip
        if floor.running and not self.was_cut:
            self._bodies.start_soon(
                guarded, partial(crew.housekeeping.tell, draining=True), name="flowq note"
            )
        await self._until_quiet(lambda: self._grace_end)
        if not floor.running:
            return
        self.cut_off = floor.running
        floor.cancel_all("shutdown")
        end = floor.loop.now() + self._options.cancel_grace
        await self._until_quiet(lambda: end)
        if floor.running:
            names = sorted({c.lane.task_name for c in floor.busy() if c.lane is not None})
            floor.events.say(
                logging.ERROR, "body.ignored_cancel", "%d bodies (%s) have not left %.1f s after they were cancelled; the worker "
                "waits for them", floor.running, ", ".join(names), self._options.cancel_grace, tasks=names, running=floor.running,
            )  # fmt: skip
            await self._until_quiet(lambda: math.inf)
        crew.floor.turn.set()

    async def _until_quiet(self, end: Callable[[], float]) -> None:
        floor = self._crew.floor
        while floor.running and (left := end() - floor.loop.now()) > 0:  # noqa: ASYNC110 - an event would cost every body
            await anyio.sleep(min(LOOK_EVERY, left))

    # --- the end ------------------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def close(self) -> None:
        """Settle, hand back, leave: sheltered, but not for long. No body runs any more."""
        crew = self._crew
        crew.intake.close()
        unhurried = self._is_over and not self.was_cut and crew.floor.known
        patience = CLOSING_DRAINED if unhurried else CLOSING
        left = False
        with anyio.move_on_after(patience, shield=True), suppress(ServerError):
            crew.floor.release_ready()
            crew.exchange.finish()
            await crew.exchange.ended.wait()
            await crew.backend.fleet.leave(crew.member.standing)
            left = True
        if not left:
            crew.floor.events.say(
                logging.WARNING, "worker.not_left", "the server did not answer at the end: others take over %d jobs when the lease is "
                "over", len(crew.floor.known), known=len(crew.floor.known),
            )  # fmt: skip
