"""Cancellations from outside: a hint on the control channel, or with a renewal, says that some wait; the facts are looked up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import anyio

from flowq._codec import CodecError
from flowq._core.outcome import NO_FAILURE, Job, ended, to_outcome
from flowq._core.verdict import EndCancelled
from flowq._errors import ServerError
from flowq._model import Delivery
from flowq._runtime.events import WORKER
from flowq._runtime.floor import Floor
from flowq._runtime.intake import Intake
from flowq._runtime.nudge import Nudge
from flowq.backends.protocol import Fleet

Cancel = tuple[str, str, str]
"""Lane, entry, reason."""
GATHER = 0.02
"""Seconds in which further hints are answered by one look."""


class Control:
    """Hears hints and applies cancellations to this worker's jobs.

    Args:
        heard: called after each hint: a limit may have changed.
    """

    def __init__(self, fleet: Fleet, floor: Floor, intake: Intake, heard: Callable[[], None]) -> None:
        self._fleet = fleet
        self._floor = floor
        self._intake = intake
        self._heard = heard
        self._hint = Nudge()

    async def run(self) -> None:
        """Look after each hint, until cancelled."""
        self._fleet.on_control(self._hint.set)
        while True:
            await self._hint.wait()
            self._heard()
            try:
                self.apply(await self._fleet.cancels())
            except ServerError as exc:
                WORKER.log(
                    logging.DEBUG,
                    "a control hint was not looked up, the next renewal tells the same: %s",
                    exc,
                )
            if self._intake.is_open and self._intake.room:
                self._intake.ask()  # a limit may have changed
            await anyio.sleep(GATHER)

    def apply(self, cancels: Iterable[Cancel]) -> None:
        """Cancel those of them that run here, and end those that wait here to start."""
        reasons = {(lane, entry): reason for lane, entry, reason in cancels}
        if not reasons:
            return
        floor = self._floor
        for consumer in floor.busy():
            delivery = consumer.delivery
            if delivery is not None and (delivery.lane, delivery.entry) in reasons:
                consumer.cancel("cancelled", reasons[delivery.lane, delivery.entry])
        waiting = [delivery for delivery in floor.ready if (delivery.lane, delivery.entry) in reasons]
        if waiting:
            kept = [delivery for delivery in floor.ready if (delivery.lane, delivery.entry) not in reasons]
            floor.ready.clear()
            floor.ready.extend(kept)
            for delivery in waiting:
                self._end(delivery, reasons[delivery.lane, delivery.entry])

    def _end(self, delivery: Delivery, reason: str) -> None:
        lane = self._floor.lanes[delivery.lane]
        try:
            call = lane.decode(delivery.raw)
        except CodecError as exc:
            call = exc.call
        job = Job(delivery, call)
        outcome = to_outcome(
            EndCancelled(), job, NO_FAILURE, failure_ttl=lane.policy.failure_ttl, cancel_note=reason
        )
        assert outcome is not None
        one = ended(job, outcome)
        self._floor.end(delivery, outcome, one.job_id, one.key, one.moved)
