"""The shop floor: the jobs in this worker's hands, and who works on them.

Everything here is touched by the event loop alone, so nothing is locked; ``known`` is the list of deliveries that this member
answers for, from the grant to the answer of its settle. A delivery is at any time in one place: waiting in ``ready``, with a
consumer, in ``ended``, or on its way to the server.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import anyio

from flowq._core.batch import MOST_BYTES, MOST_OUTCOMES, how_many, weight
from flowq._core.lease import Lease
from flowq._core.limit import is_excess
from flowq._core.prefetch import STALE
from flowq._model import CancelReason, Delivery, Ended, LeaseTimes, Outcome, Released
from flowq._runtime.clock import Loop
from flowq._runtime.events import Events
from flowq._runtime.lanes import Lane
from flowq._runtime.nudge import Nudge

if TYPE_CHECKING:
    from flowq._runtime.consumer import Consumer

NO_LEASE = Lease(LeaseTimes.of(0.0), -math.inf, math.inf, over=True)
"""In force while the worker is no member: nothing may start."""
RELEASED = Released()


class Floor:
    """See the module. Attributes are plain: consumers use them once per job."""

    def __init__(
        self, loop: Loop, events: Events, lanes: Mapping[str, Lane], *, concurrency: int, slice_: float
    ) -> None:
        self.loop = loop
        self.events = events
        self.lanes = dict(lanes)
        self.concurrency = concurrency
        self.slice = slice_
        self.slice_end = 0.0
        """When the consumers together must let others run."""
        self.lease: Lease = NO_LEASE
        self.known: dict[int, Delivery] = {}
        """fence → delivery."""
        self.ready: deque[Delivery] = deque()
        self.ended: list[Ended] = []
        self.heavy = 0
        """Bytes of outcomes in ``ended``."""
        self.running = 0
        """Consumers inside a body."""
        self.tokens_back = False
        """A body of a limited or sync lane has ended: somebody could use what it held."""
        self.consumers: set[Consumer] = set()
        self.idle: list[anyio.Event] = []
        self.skewed: dict[str, int] = {}
        """Lane → jobs that were put off because they did not fit this code, since that was last told."""
        self.watch_at = math.inf
        """When the watchdog looks next, at the latest."""
        self.turn = Nudge()
        """Wakes the exchange."""
        self.watch = Nudge()
        """Wakes the watchdog."""
        self.late: Callable[[], None] = _nothing
        """Called by a consumer that finds the lease over before the watchdog does."""
        self.interrupt: Callable[[BaseException], None] = _nothing_of
        """Called with the KeyboardInterrupt that struck a body."""
        self.left_late: Callable[[], None] = _nothing
        """Called when a body of a limited lane has left after its lease."""

    # --- work comes in ------------------------------------------------------------------------------------------------------

    def grant(self, grants: Iterable[Delivery], limits: Mapping[str, int], now: float) -> int:
        """Take deliveries in hand: known first, then into the queue; wake one consumer, which wakes the next.

        Returns how many were handed back because they are above a limit. Whoever asks at once may get them again.
        """
        refused = 0
        known, lanes, ready = self.known, self.lanes, self.ready
        limited: set[Lane] = set()
        for name, limit in limits.items():
            lanes[name].hear_limit(limit)
        for delivery in grants:
            lane = lanes[delivery.lane]
            delivery.claimed_at = now
            known[delivery.fence] = delivery
            if lane.limiter is not None:
                if delivery.lane not in limits:
                    lane.hear_limit(None)
                elif lane.limit is not None and is_excess(lane.outstanding, lane.limit):
                    self._refuse(delivery, lane)
                    refused += 1
                    continue
                limited.add(lane)
            lane.outstanding += 1
            ready.append(delivery)
        for lane in limited:
            lane.follow()
        if len(ready) > self.concurrency - self.running:
            self.look_at(now + STALE)
        self.wake_consumer()
        return refused

    def _refuse(self, delivery: Delivery, lane: Lane) -> None:
        self.events.say(
            40, "limit.exceeded", "defect: %s was granted although this worker alone holds its limit of %s; handed back",
            lane.name, lane.limit, lane=lane.name, limit=lane.limit, held=lane.outstanding,
        )  # fmt: skip
        lane.outstanding += 1
        self.end(delivery, RELEASED)

    def wake_consumer(self) -> None:
        if self.ready and self.idle:
            self.idle.pop().set()

    async def park(self) -> None:
        """Wait for work. Whoever is woken wakes the next one while there is more than one delivery to start."""
        event = anyio.Event()
        self.idle.append(event)
        try:
            await event.wait()
        except BaseException:
            if not event.is_set():
                self.idle.remove(event)
            raise
        self.slice_end = self.loop.now() + self.slice
        if len(self.ready) > 1 and self.idle:
            self.idle.pop().set()

    def look_at(self, moment: float) -> None:
        """Have the watchdog look by then."""
        if moment < self.watch_at:
            self.watch_at = moment
            self.watch.set()

    # --- work goes out ------------------------------------------------------------------------------------------------------

    def end(
        self,
        delivery: Delivery,
        outcome: Outcome,
        job_id: str = "",
        key: str = "",
        moved: bool = False,
        run_ms: int = 0,
    ) -> None:
        """Put an outcome on its way; consumers do the same inline for what succeeds."""
        self.ended.append(Ended(delivery, outcome, job_id, key, moved, run_ms))
        self.heavy += weight(outcome)
        self.turn.set()

    def take_ended(self) -> list[Ended]:
        """What goes with the next turn, at most what one settle may carry."""
        ended = self.ended
        if len(ended) <= MOST_OUTCOMES and self.heavy <= MOST_BYTES:
            self.ended, self.heavy = [], 0
            return ended
        count = how_many(ended) if self.heavy > MOST_BYTES else MOST_OUTCOMES
        self.ended = ended[count:]
        self.heavy -= sum(weight(one.outcome) for one in ended[:count])
        self.turn.set()
        return ended[:count]

    def put_back(self, ended: list[Ended]) -> None:
        """These were not answered; they go first next time, as far as they are still ours."""
        kept = [one for one in ended if one.delivery.fence in self.known]
        self.ended[:0] = kept
        self.heavy += sum(weight(one.outcome) for one in kept)

    def settled(self, ended: list[Ended]) -> None:
        """These were answered: no token, no entry is behind them any more."""
        known, lanes = self.known, self.lanes
        limited: set[Lane] = set()
        for one in ended:
            delivery = one.delivery
            if known.pop(delivery.fence, None) is None:
                continue
            lane = lanes[delivery.lane]
            lane.outstanding -= 1
            if lane.limiter is not None:
                limited.add(lane)
        for lane in limited:
            lane.follow()

    def release_ready(self) -> int:
        """Hand back what has not started. Returns how many."""
        count = len(self.ready)
        for delivery in self.ready:
            self.end(delivery, RELEASED)
        self.ready.clear()
        return count

    def release_stale(self, now: float) -> None:
        """Hand back what was taken ahead and could not start in time; its lanes are taken ahead no more, until measured anew."""
        while self.ready and self.ready[0].claimed_at <= now - STALE:
            delivery = self.ready.popleft()
            self.lanes[delivery.lane].pace.was_wrong(now)
            self.end(delivery, RELEASED)

    # --- work is taken away -------------------------------------------------------------------------------------------------

    def busy(self) -> list[Consumer]:
        """Consumers with a job in hand."""
        return [consumer for consumer in self.consumers if consumer.delivery is not None]

    def limited_bodies(self) -> int:
        """How many bodies of limited lanes run. The keeper's thread asks this, too: it copies before it counts."""
        return sum(consumer.limiter is not None for consumer in tuple(self.consumers))

    def limited_outstanding(self) -> int:
        """How many deliveries of limited lanes may run, now or until the next turn. From whatever thread."""
        return sum(lane.outstanding for lane in self.lanes.values() if lane.limiter is not None)

    def cancel_all(self, reason: CancelReason) -> None:
        for consumer in self.busy():
            consumer.cancel(reason)

    def drop(self, gone: Iterable[Delivery]) -> int:
        """These are not ours any more: nothing of them starts, goes on or is written. Returns how many bodies are cancelled."""
        fences = {delivery.fence for delivery in gone}
        for fence in fences:
            delivery = self.known.pop(fence, None)
            if delivery is not None:
                lane = self.lanes[delivery.lane]
                lane.outstanding = max(0, lane.outstanding - 1)
                lane.follow()
        kept = [delivery for delivery in self.ready if delivery.fence not in fences]
        self.ready.clear()  # in place: each consumer holds the queue itself
        self.ready.extend(kept)
        self.ended = [one for one in self.ended if one.delivery.fence not in fences]
        self.heavy = sum(weight(one.outcome) for one in self.ended)
        bodies = [c for c in self.busy() if c.delivery is not None and c.delivery.fence in fences]
        for consumer in bodies:
            consumer.cancel("lease_lost")
        return len(bodies)

    def lose_lease(self) -> int:
        """The lease is over: nothing starts, what must not outlive it is cancelled. Returns how many bodies are cancelled.

        Known stay the bodies that may go on, and what had ended before: it was done under the lease, and may still be told.
        """
        self.lease = NO_LEASE
        running = [
            c.delivery
            for c in self.busy()
            if c.delivery is not None and self.lanes[c.delivery.lane].leaves_with_lease
        ]
        cancelled = self.drop([*self.ready, *running])
        for lane in self.lanes.values():
            lane.close()
        for delivery in self.known.values():
            self.lanes[delivery.lane].outstanding += 1
        return cancelled

    def may_outlive_lease(self) -> list[Delivery]:
        """What the next member shall keep."""
        return [
            delivery for delivery in self.known.values() if not self.lanes[delivery.lane].leaves_with_lease
        ]


def _nothing() -> None:
    """Until the worker's tree is built."""


def _nothing_of(_error: BaseException) -> None:
    """Until the worker's tree is built."""
