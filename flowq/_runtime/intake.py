"""How much this worker wants now, and what it knows of the work outside: the decisions of ``_core.prefetch`` with their memory.

A claim is ``due`` when one may find something: somebody rang, the safety poll or a timer said so, or the last claim got all that
it asked for. A body of a limited or sync lane that ended makes one worth while, too: what it held is free now.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from flowq._core.prefetch import Load, is_worth_a_claim, look_ahead, share_ahead
from flowq._core.reach import Reach
from flowq._model import Claimed, Want
from flowq._runtime.floor import Floor
from flowq._runtime.nudge import Nudge
from flowq._runtime.options import RunOptions

AFTER_EXPIRY = 0.020
"""Seconds after another member's lease has ended at which its jobs are asked for."""
AFTER_EXCESS = 1.0
"""Seconds for which a worker asks for nothing after it was granted more than a limit allows: asked at once, the same server would
grant the same job again, and grant and refusal would chase each other."""
SAMPLE_EVERY = 0.002
"""Seconds between two measurements of the lanes' pace."""


class Intake:
    """See the module. The exchange asks ``want`` once a turn; reader and scheduler feed it and wait for it."""

    def __init__(self, floor: Floor, options: RunOptions, stop_waiting: Callable[[], None]) -> None:
        self._floor = floor
        self._threads = options.threads
        self._stop_waiting = stop_waiting
        self._sync = {lane.name for lane in floor.lanes.values() if lane.sync}
        self._only_sync = len(self._sync) == len(floor.lanes)
        self.is_open = False
        self.due = True
        self.ring_to_pass = False
        """A ring reached this worker although it has no room: somebody else shall hear it."""
        self.is_listening = False
        """The reader waits for a ring."""
        self.listen = Nudge()
        """Wakes the reader."""
        self.timers = Nudge()
        """Wakes the scheduler."""
        self.next_due = math.inf
        """When the earliest delayed job is due, as far as this worker knows; monotonic seconds, as the next two."""
        self.next_expiry = math.inf
        self.quarantine_end = 0.0
        """When limited lanes may start again, as far as this worker knows; 0: there is no quarantine, said by the server."""
        self.found_nothing = False
        """The last claim had room and got nothing."""
        self.withheld = False
        """The last claim left work to others who wait for it."""
        self._asked = 0
        self._passed_over = False
        """The last claim had no room, found nothing, and did not look at every lane: the next room is worth another one."""
        self._held_off_until = -math.inf
        self._sent_at = -math.inf
        """When the last claim was."""
        self._looked_at = -math.inf
        """When a claim with room was sent last: it sees whatever there is."""
        self._reach = Reach()
        self._averages: dict[str, float] = {}
        """Seconds of one body, of the unlimited lanes whose pace is usable."""
        self._sampled_at = floor.loop.now()

    # --- what is free -------------------------------------------------------------------------------------------------------

    @property
    def load(self) -> Load:
        floor = self._floor
        return Load(floor.concurrency, floor.running, len(floor.ready))

    def free_threads(self) -> int:
        if not self._sync:
            return self._threads
        floor = self._floor
        busy = sum(c.delivery is not None and c.lane is not None and c.lane.sync for c in floor.consumers)
        return max(0, self._threads - busy - sum(d.lane in self._sync for d in floor.ready))

    @property
    def room(self) -> int:
        """How many jobs could start now."""
        return min(self.load.room, self.free_threads()) if self._only_sync else self.load.room

    # --- asking -------------------------------------------------------------------------------------------------------------

    def want(self, now: float) -> Want | None:
        """What to ask for in this turn; None: nothing."""
        floor = self._floor
        if now < self._held_off_until:
            return self._pass_ring(0)
        self._sent_at = now
        if now - self._sampled_at >= SAMPLE_EVERY:
            self._sample(now)
        room = self.room
        if not self.is_open or not (self.due or ((floor.tokens_back or self._passed_over) and room)):
            return self._pass_ring(room)
        extra = self._ahead(now) if self.due and self._averages else {}
        if not room and not (extra and is_worth_a_claim(self.load, sum(extra.values()))):
            return self._pass_ring(room)
        floor.tokens_back = False
        # now, not when the answer comes: a ring that is heard in between asks for a claim of its own
        self.due = False
        self.ring_to_pass = False
        room = self._reach.part_of(room, len(floor.ready))
        self._asked = room
        self._passed_over = not room and len(extra) < len(floor.lanes)
        if room:
            self._looked_at = now
        return Want(room, self.free_threads(), extra)

    def _pass_ring(self, room: int) -> Want | None:
        if not self.ring_to_pass or (room and self.is_open):
            return None
        self.ring_to_pass = False
        return Want(0, 0, {}, ring=True)

    def answered(self, claimed: Claimed, now: float) -> None:
        """Learn from a claim's answer."""
        got = len(claimed.grants)
        if got >= max(1, self._asked):
            self.due = True
            self._passed_over = False
        self.found_nothing = got == 0
        self.withheld = claimed.withheld
        before = min(self.next_due, self.next_expiry)
        # from when it was sent: an answer that was long on its way must not make a job late; too early costs a look
        sent_at = self._sent_at
        self.next_due = math.inf if claimed.next_due is None else sent_at + claimed.next_due
        self.next_expiry = (
            math.inf if claimed.next_expiry is None else sent_at + claimed.next_expiry + AFTER_EXPIRY
        )
        if claimed.quarantine > 0:
            self.quarantine_end = now + claimed.quarantine
        elif self.quarantine_end:
            self.quarantine_end = 0.0
            self._floor.events.say(logging.WARNING, "quarantine.end", "limited tasks start again")
        if min(self.next_due, self.next_expiry) < before or claimed.quarantine > 0:
            self.timers.set()

    def hold_off(self, now: float) -> None:
        """More was granted than a limit allows: ask for nothing for ``AFTER_EXCESS``, then anew."""
        self._held_off_until = now + AFTER_EXCESS
        self.due = True

    def rest(self, now: float) -> float:
        """How long the exchange may wait for something to say, in seconds: until ``hold_off`` ends, if it is in force."""
        return self._held_off_until - now if now < self._held_off_until else math.inf

    def close(self) -> None:
        """Take no more. A ring that was heard and not yet acted upon is for somebody else now."""
        if self.is_open and self.due:
            self.ring_to_pass = True
        self.is_open = False

    def ask(self) -> None:
        """A claim may find something: make one."""
        self.due = True
        self._floor.turn.set()

    def heard(self, rang: bool) -> None:
        """The reader's wait is over: by a ring, or (False) because it is time for the safety poll."""
        if self.is_open and self.room:
            self.ask()
        elif rang:
            self.ring_to_pass = True
            self._floor.turn.set()

    def unlooked(self, seconds: float) -> float:
        """How long until the last claim with room is so many seconds ago."""
        return self._looked_at + seconds - self._floor.loop.now()

    @property
    def can_listen(self) -> bool:
        return self.is_open and not (self.due or self._passed_over) and self.room > 0

    def update(self, is_member: bool) -> None:
        """After each turn: send the reader to listen, or call it back."""
        if self.can_listen and is_member:
            if not self.is_listening:
                self.listen.set()
        elif self.is_listening:
            self._stop_waiting()

    def is_exhausted(self, now: float, within: float) -> bool:
        """Is nothing ready, running, or due within so many seconds, as far as this worker can serve it?"""
        idle = not self._floor.known and not (self.due or self._passed_over) and self.found_nothing
        return idle and now >= self.quarantine_end and self.next_due > now + within

    # --- pace ---------------------------------------------------------------------------------------------------------------

    def _sample(self, now: float) -> None:
        """Feed the lanes' paces and the reach, and remember whose averages can be used."""
        ended, seconds = 0, now - self._sampled_at
        self._sampled_at = now
        self._averages.clear()
        for lane in self._floor.lanes.values():
            if lane.ended:
                ended += lane.ended
                lane.pace.add(lane.ended, lane.spent, now)
                lane.ended, lane.spent = 0, 0.0
            if lane.limiter is None and not lane.sync and lane.pace.is_usable(now):
                self._averages[lane.name] = lane.pace.seconds
        self._reach.add(ended, seconds, self.load)

    def _ahead(self, now: float) -> dict[str, int]:
        averages = self._averages
        bodies = (
            (now - c.started, averages[c.lane.name])
            for c in self._floor.consumers
            if c.delivery is not None and c.lane is not None and c.lane.name in averages
        )
        return share_ahead(averages, look_ahead(bodies), self.load)
