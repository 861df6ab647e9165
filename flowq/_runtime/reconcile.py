"""Making the worker's list and the server's agree again: after a lost reply, a new connection, a forgotten server, a lost lease.

The order is LEASE.md's (W8): confirm first, then hand back what is unknown, then send outcomes again; and no claim, ``mine`` or
settle of this worker between the fault and the confirmation. ``Exchange`` is one task with one call at a time, so nothing is
outstanding while this runs.
"""

from __future__ import annotations

import logging

import anyio

from flowq._errors import (
    AuthenticationFailed,
    ConfigurationError,
    IncompatibleLayout,
    LeaseLost,
    ScriptFailed,
    ServerError,
    ServerTooOld,
)
from flowq._model import Status
from flowq._runtime.floor import Floor
from flowq._runtime.intake import Intake
from flowq._runtime.keeper import Keeper
from flowq._runtime.member import PATIENCE, Member
from flowq.backends.protocol import Backend, OtherTtl, TtlNotYet

LOOK_EVERY = 0.5
"""Seconds between looks at limited bodies that must leave before the worker may join again."""


class Reconciler:
    """See the module."""

    def __init__(
        self, backend: Backend, floor: Floor, member: Member, intake: Intake, keeper: Keeper
    ) -> None:
        self._backend = backend
        self._floor = floor
        self._member = member
        self._intake = intake
        self._keeper = keeper

    @property
    def is_needed(self) -> bool:
        return self._member.must_confirm or self._member.generation != self._backend.generation

    async def confirm(self) -> None:
        """Agree with the server, as the same member if it still is one.

        Raises:
            ServerError: not now; try again.
        """
        backend, member, floor = self._backend, self._member, self._floor
        await backend.wait_up()
        if self._is_over():
            return
        generation, sent_at = backend.generation, floor.loop.now()
        before = member.standing.epoch
        answer = await backend.fleet.confirm(member.standing, member.known)
        if self._is_over():
            return
        if answer.status is Status.LOST:
            member.lapse("the server does not know it any more")
            return
        cancelled = member.confirmed(answer.epoch, answer.fences, sent_at)
        if answer.epoch != before:
            floor.events.say(
                logging.WARNING, "server.forgot", "the server was restarted, failed over or emptied: %d bodies could not be confirmed "
                "and are cancelled, %d jobs go on; limited tasks start nothing for one lease", cancelled, len(floor.known),
                bodies=cancelled, kept=len(floor.known),
            )  # fmt: skip
        settled = await backend.stream.mine(member.next_session(), member.known)
        if self._is_over():
            return
        if settled.status is Status.OK:
            member.generation, member.must_confirm = generation, False
            self._intake.ask()
        elif settled.status is Status.LOST:
            member.lapse("the server does not know it any more")
        else:
            member.must_confirm = True

    def _is_over(self) -> bool:
        """Has the lease ended while the server was asked?"""
        return self._member.over

    async def rejoin(self) -> None:
        """Become a member again, once the limited bodies of the former life have left.

        Raises:
            ServerError: not now; try again. LeaseLost: the server refuses this worker for good.
        """
        backend, member, floor = self._backend, self._member, self._floor
        while (wait := member.must_wait(floor.loop.now())) > 0:
            self._keeper.publish()
            await floor.turn.wait(min(wait, LOOK_EVERY))
        self._keeper.publish()
        await backend.wait_up()
        await self.send_late()
        try:
            quarantine = await self._join()
        except ConfigurationError as exc:
            raise LeaseLost(f"this worker lost its lease and cannot join again: {exc}") from exc
        floor.events.say(
            logging.INFO,
            "lease.rejoined",
            "joined again as member %s",
            member.standing.member,
            kept=len(floor.known),
        )
        self.note_quarantine(quarantine)
        self._intake.ask()

    async def _join(self) -> float:
        """Be patient where the fleet's lease TTL is another: a change of it is under way, or an old copy of the data shows members
        with another one, which must be seen to be gone first.
        """
        member, now = self._member, self._floor.loop.now
        end = now() + PATIENCE * member.lease_ttl
        while True:
            try:
                return await member.join()
            except OtherTtl as exc:
                if now() >= end and not isinstance(exc, TtlNotYet):
                    raise
            await anyio.sleep(LOOK_EVERY)

    async def send_late(self) -> None:
        """Settle under the former membership what had ended before the lease did: it counts if nobody has taken it over."""
        floor, member = self._floor, self._member
        while sent := floor.take_ended():
            try:
                answer = await self._backend.stream.exchange(member.standing, sent, None)
            except BaseException:
                floor.put_back(sent)
                raise
            if answer.settled is None or answer.settled.status is not Status.OK:
                floor.put_back(sent)  # the next membership may keep some of it, and drops the rest
                return
            floor.settled(sent)

    def note_quarantine(self, seconds: float) -> None:
        """Remember how long limited lanes start nothing, and say it."""
        if seconds > 0:
            self._intake.quarantine_end = self._floor.loop.now() + seconds
            self._intake.timers.set()
            self._floor.events.say(
                logging.WARNING, "quarantine.start", "limited tasks start nothing for %.1f s: the server is new or has forgotten who "
                "was running", seconds, seconds=seconds,
            )  # fmt: skip


def is_passing(error: ServerError) -> bool:
    """Is it worth waiting for the server after this? Wrong credentials, a foreign layout or a refused script do not pass."""
    return not isinstance(error, AuthenticationFailed | IncompatibleLayout | ScriptFailed | ServerTooOld)
