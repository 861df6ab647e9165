"""Sleeps until a delayed job is due, another member's lease ends, or the quarantine is over, and does what is to be done then.

Every worker of the fleet keeps these timers. Whoever is first does the work; a turn that this worker made meanwhile brings news
that move its timers, so an idle fleet does not wake up together for one job.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio

from flowq._errors import ServerError
from flowq._runtime.events import WORKER
from flowq._runtime.floor import Floor
from flowq._runtime.intake import Intake
from flowq._runtime.reconcile import is_passing
from flowq.backends.protocol import Backend

JITTER = 0.004
"""Seconds over which workers spread that wait for the same moment."""
AFTER_FAILURE = 1.0
"""Seconds after which an unanswered promotion is tried again."""
STILL_QUARANTINED = 0.25
"""Seconds after which a worker asks again whether the quarantine is over: the server says that it is, not this worker's clock."""


class Scheduler:
    """See the module."""

    def __init__(self, backend: Backend, floor: Floor, intake: Intake, draw: Callable[[], float]) -> None:
        self._backend = backend
        self._floor = floor
        self._intake = intake
        self._draw = draw

    async def run(self) -> None:
        intake, now = self._intake, self._floor.loop.now
        while True:
            end = intake.quarantine_end or math.inf
            moment = min(intake.next_due, intake.next_expiry, end)
            if await intake.timers.wait(max(0.0, moment - now())):
                continue
            if intake.next_due <= now():
                await self._promote(intake.next_due)
            if intake.next_expiry <= now():
                intake.next_expiry = math.inf
                self._claim()
            if intake.quarantine_end and intake.quarantine_end <= now():
                intake.quarantine_end = now() + STILL_QUARANTINED
                self._claim()

    def _claim(self) -> None:
        if self._intake.room:
            self._intake.ask()

    async def _promote(self, due: float) -> None:
        """Move what is due into its stream, unless a claim of ours has brought news since.

        A claim does that too, and takes it: with room for it, that is one way to the server instead of three.
        """
        intake = self._intake
        await anyio.sleep(self._draw() * JITTER)
        if intake.next_due != due:
            return
        intake.next_due = math.inf
        if intake.room:
            intake.ask()
            return
        sent_at = self._floor.loop.now()
        try:
            left = await self._backend.timers.promote()
        except ServerError as exc:
            if not is_passing(exc):
                raise
            WORKER.log(logging.DEBUG, "delayed jobs wait: %s", exc)
            left = AFTER_FAILURE
        if left is not None:
            intake.next_due = min(intake.next_due, sent_at + left)
