"""The one conversation with the server: what ended goes out, what can start comes in, one turn at a time.

Whatever ends while a turn is under way goes with the next one: the batching needs no timer. With never more than one call
outstanding, a lost reply is repaired by confirming and handing back (``reconcile``), and a settle can be sent again.

This task ends last: it is still alive while bodies leave, so that their outcomes are written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from flowq._errors import ServerError
from flowq._model import Claimed, Ended, Exchanged, Refusal, Released, Settled, Status, Succeeded, Want
from flowq._runtime.aside import Aside
from flowq._runtime.events import JOB
from flowq._runtime.floor import Floor
from flowq._runtime.intake import Intake
from flowq._runtime.keeper import Keeper
from flowq._runtime.member import Member
from flowq._runtime.reconcile import Reconciler, is_passing
from flowq.backends.protocol import Backend

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between attempts while the server cannot be reached."""


class Exchange:
    """See the module. ``finish`` has it send what is left and end."""

    def __init__(
        self,
        backend: Backend,
        floor: Floor,
        member: Member,
        intake: Intake,
        keeper: Keeper,
        reconciler: Reconciler,
        aside: Aside,
    ) -> None:
        self._backend = backend
        self._stream = backend.stream
        self._floor = floor
        self._member = member
        self._intake = intake
        self._keeper = keeper
        self._reconciler = reconciler
        self._aside = aside
        self._finishing = False
        self._lost_since: float | None = None
        self._failures = 0
        self.ended = anyio.Event()
        self.after_turn: Callable[[], None] = _nothing
        """Called after each turn: whoever waits for the floor to be empty looks then."""
        self.turns = 0
        self.answered_at = 0.0
        """When a turn was last answered; monotonic seconds."""
        self.tally: dict[str, int] = {}
        """How often each kind of outcome was written, and each refusal."""

    def finish(self) -> None:
        """No body runs any more: send what is left, then end."""
        self._finishing = True
        self._floor.turn.set()

    async def run(self) -> None:
        try:
            while True:
                try:
                    if not await self._turn():
                        return
                    self._note_answer()
                except ServerError as exc:
                    if is_passing(exc):
                        await self._outage(exc)
                    elif not await self._aside.heed(exc):
                        raise
        finally:
            self.ended.set()

    async def _turn(self) -> bool:
        """One turn. Returns False when everything is said."""
        floor, member, intake = self._floor, self._member, self._intake
        if member.over:
            if self._finishing:
                await self._reconciler.send_late()
                return False
            await self._reconciler.rejoin()
            return True
        if self._reconciler.is_needed:
            await self._reconciler.confirm()
            return True
        now = floor.loop.now()
        sent = floor.take_ended()
        want = intake.want(now)
        if not sent and want is None:
            intake.update(not member.over)
            self.after_turn()
            if self._finishing and not floor.turn.is_set:
                return False
            await floor.turn.wait(intake.rest(now))
            return True
        await self._converse(sent, want)
        intake.update(not member.over)
        self._keeper.publish()
        self.after_turn()
        return True

    async def _converse(self, sent: list[Ended], want: Want | None) -> None:
        floor, member = self._floor, self._member
        floor.turn.clear()
        standing = member.standing
        try:
            answer = await self._stream.exchange(standing, sent, want)
        except BaseException:
            floor.put_back(sent)
            member.must_confirm = True
            if want is not None:
                self._intake.due = True
            raise
        self._aside.answered()
        self.turns += 1
        self.answered_at = floor.loop.now()
        if member.standing.member == standing.member:
            self._apply(sent, answer)
        else:
            floor.put_back(sent)

    def _apply(self, sent: list[Ended], answer: Exchanged) -> None:
        if answer.settled is not None:
            self._apply_settled(sent, answer.settled)
        if answer.claimed is not None:
            self._apply_claimed(answer.claimed)

    # --- settled ------------------------------------------------------------------------------------------------------------

    def _apply_settled(self, sent: list[Ended], settled: Settled) -> None:
        if settled.status is not Status.OK:
            self._floor.put_back(sent)
            self._heed(settled.status)
            return
        self._floor.settled(sent)
        self._count(sent)
        for delivery, refusal in settled.refused:
            event = "job.fenced" if refusal is Refusal.FENCED else "job.gone"
            self.tally[event] = self.tally.get(event, 0) + 1
            self._floor.events.say(
                logging.WARNING, event, "the outcome of %s:%s was not taken: %s", delivery.lane, delivery.entry,
                "another delivery owns the job by now" if refusal is Refusal.FENCED else "it is not pending any more",
                lane=delivery.lane, entry=delivery.entry, fence=delivery.fence,
            )  # fmt: skip

    def _count(self, sent: list[Ended]) -> None:
        tally = self.tally
        for one in sent:
            name = type(one.outcome).__name__
            tally[name] = tally.get(name, 0) + 1
        if JOB.isEnabledFor(logging.DEBUG):
            for one in sent:
                if isinstance(one.outcome, Succeeded):
                    JOB.debug(
                        "%s succeeded in %d ms", one.job_id, one.run_ms,
                        extra={"event": "job.succeeded", "facts": {"job": one.job_id, "ms": one.run_ms}},
                    )  # fmt: skip
                elif isinstance(one.outcome, Released):
                    JOB.debug(
                        "%s:%s handed back", one.delivery.lane, one.delivery.entry,
                        extra={"event": "job.released", "facts": {"lane": one.delivery.lane, "entry": one.delivery.entry}},
                    )  # fmt: skip

    # --- claimed ------------------------------------------------------------------------------------------------------------

    def _apply_claimed(self, claimed: Claimed) -> None:
        floor, member = self._floor, self._member
        if claimed.status is not Status.OK:
            self._intake.due = True
            self._heed(claimed.status)
            return
        now = floor.loop.now()
        self._intake.answered(claimed, now)
        if not claimed.grants:
            return
        if claimed.epoch != member.standing.epoch or member.over or now >= floor.lease.deadline:
            # they start nothing here; confirming and handing back gives them to somebody who may
            member.must_confirm = True
            floor.turn.set()
            return
        member.seen_fence(max(delivery.fence for delivery in claimed.grants))
        self._note_adopted(claimed)
        if floor.grant(claimed.grants, claimed.limits, now):
            self._intake.hold_off(now)
        if not self._intake.is_open:
            floor.release_ready()

    def _note_adopted(self, claimed: Claimed) -> None:
        for delivery in claimed.grants:
            if delivery.crashes:
                self._floor.events.say(
                    logging.WARNING, "job.adopted", "%s:%s taken over from a worker that died (crash %d)", delivery.lane,
                    delivery.entry, delivery.crashes, lane=delivery.lane, entry=delivery.entry, crashes=delivery.crashes,
                )  # fmt: skip

    def _heed(self, status: Status) -> None:
        if status is Status.LOST:
            self._member.lapse("the server does not know it any more")
        else:
            self._member.must_confirm = True
            self._floor.turn.set()

    # --- the server is away -------------------------------------------------------------------------------------------------

    async def _outage(self, error: ServerError) -> None:
        floor = self._floor
        if self._lost_since is None:
            self._lost_since = floor.loop.now()
            floor.events.say(
                logging.WARNING,
                "redis.lost",
                "the server cannot be reached; bodies go on meanwhile: %s",
                error,
            )
        pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        await anyio.sleep(pause)
        await self._backend.wait_up()

    def _note_answer(self) -> None:
        self._failures = 0
        if self._lost_since is not None and not self._reconciler.is_needed:
            seconds = self._floor.loop.now() - self._lost_since
            self._lost_since = None
            self._floor.events.say(
                logging.WARNING, "redis.back", "the server is back after %.1f s", seconds, seconds=seconds
            )


def _nothing() -> None:
    """Until the worker's tree is built."""
