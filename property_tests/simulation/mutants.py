"""Broken variants of flowq, one wrong rule each: what the simulation must be able to see.

A variant is patched into the modules that run, for the length of a ``with``. Each has a stored plan (mutants.json) on which the
checker names the promise it breaks, and on which what is shipped breaks none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import anyio

from flowq._core import lease as lease_module
from flowq._core.deadlines import NEVER
from flowq._model import Delivery, LeaseTimes, Settled, Status, Succeeded
from flowq._runtime import exchange as exchange_module
from flowq._runtime import watchdog
from flowq._runtime.consumer import Consumer
from flowq._runtime.exchange import Exchange
from flowq._runtime.floor import Floor
from flowq._runtime.member import Member
from flowq._runtime.reconcile import Reconciler
from flowq._runtime.shift import Shift
from flowq.backends.memory import fleet, settle, state, submit
from flowq.backends.memory.server import MemoryServer

Mutant = Callable[[], AbstractContextManager[Any]]


def _swap(target: Any, name: str, new: Any) -> Mutant:
    return lambda: mock.patch.object(target, name, new)


def _settle_by_entry_alone() -> AbstractContextManager[Any]:
    """Whoever holds an entry may end it: no owner, no delivery number is compared."""
    return mock.patch.object(settle, "owns", lambda lane, delivery, _member: delivery.entry in lane.pending)


def _settle_of_any_delivery() -> AbstractContextManager[Any]:
    """The owner is compared, the delivery number is not: a member's older delivery ends its newer one."""

    def owns(lane: Any, delivery: Delivery, member: str) -> bool:
        pending = lane.pending.get(delivery.entry)
        return pending is not None and pending.owner == member

    return mock.patch.object(settle, "owns", owns)


@contextmanager
def _ack_before_run() -> Generator[None]:
    """A job is settled when it is granted, as a queue does that pops its jobs."""
    grant = Floor.grant
    take = Floor.take_ended

    def acked(self: Floor, grants: Iterable[Delivery], limits: Any, now: float) -> None:
        grants = list(grants)
        grant(self, grants, limits, now)
        for delivery in grants:
            self.end(delivery, Succeeded(None, 0), f"{delivery.lane}:{delivery.entry}")

    def once(self: Floor) -> Any:
        return [one for one in take(self) if one.delivery.fence in self.known]

    with mock.patch.object(Floor, "grant", acked), mock.patch.object(Floor, "take_ended", once):
        yield


def _no_deadline() -> AbstractContextManager[Any]:
    """A worker trusts its lease until it is told that it is lost."""
    return mock.patch.object(
        LeaseTimes, "of", classmethod(lambda cls, ttl: cls(ttl, ttl / 6, -math.inf, ttl / 8))
    )


def _deadline_without_margin() -> AbstractContextManager[Any]:
    """The worker's deadline is as long as the server's."""
    return mock.patch.object(LeaseTimes, "of", classmethod(lambda cls, ttl: cls(ttl, ttl / 6, 0.0, ttl / 8)))


def _bodies_go_on_after_the_lease() -> AbstractContextManager[Any]:
    """The lease ends, and limited bodies are not cancelled."""

    def lose_lease(self: Floor) -> int:
        running = [c.delivery for c in self.busy() if c.delivery is not None]
        self.known = {d.fence: d for d in running} | {one.delivery.fence: one.delivery for one in self.ended}
        self.ready.clear()
        for lane in self.lanes.values():
            lane.close()
        return 0

    return mock.patch.object(Floor, "lose_lease", lose_lease)


def _late_answer_revives() -> AbstractContextManager[Any]:
    """An answer that comes after the deadline extends the lease all the same."""

    def extend(self: Any, sent_at: float, now: float) -> None:
        self.deadline = max(self.deadline, now + self.times.ttl - self.times.margin)

    return mock.patch.object(lease_module.Lease, "_extend", extend)


def _lost_claim_forgotten() -> AbstractContextManager[Any]:
    """A claim whose reply was lost is not reconciled."""
    return mock.patch.object(Reconciler, "is_needed", property(lambda _self: False))


def _mine_hands_back_all() -> AbstractContextManager[Any]:
    """``mine`` hands back what still runs, too."""
    original = fleet.mine
    return mock.patch.object(fleet, "mine", lambda state, me, _known: original(state, me, []))


def _join_keeps_nothing() -> AbstractContextManager[Any]:
    """Joining again hands back the bodies that may outlive a lease, and they are told that they go on."""

    def take_over(state: Any, _name: str, old: str, keep: Any) -> list[int]:
        fleet.retire(state, old)
        return [delivery.fence for delivery in keep]

    return mock.patch.object(fleet, "_take_over", take_over)


def _release_on_cancel() -> AbstractContextManager[Any]:
    """A drain hands back bodies when it cancels them, not when they have left."""
    original = Floor.cancel_all

    def cancel_all(self: Floor, reason: Any) -> None:
        for consumer in self.busy():
            if consumer.delivery is not None and consumer.delivery.fence in self.known:
                self.end(consumer.delivery, exchange_module.Released())
        original(self, reason)

    return mock.patch.object(Floor, "cancel_all", cancel_all)


def _no_quarantine() -> AbstractContextManager[Any]:
    """A server that has forgotten who runs lets limited lanes start at once."""

    def forget(state: Any, epoch: str) -> None:
        state.epoch = epoch

    return mock.patch.object(fleet, "forget", forget)


def _no_epoch() -> AbstractContextManager[Any]:
    """A server that has forgotten does not say so."""

    def forget(state: Any, _epoch: str) -> None:
        state.quarantine_end = state.clock.lease + state.ttl_ms

    return mock.patch.object(fleet, "forget", forget)


def _timeouts_unseen() -> AbstractContextManager[Any]:
    """The watchdog looks at no body's deadline."""
    return mock.patch.object(watchdog, "expired", lambda _consumers, _now: [])


def _all_due() -> AbstractContextManager[Any]:
    """A delayed job is promoted when somebody looks, due or not."""

    def next_due(self: Any) -> float | None:
        return 0 if self.delayed else None

    return mock.patch.object(state.State, "next_due", next_due)


def _submit_twice() -> AbstractContextManager[Any]:
    """A batch that is sent again is stored again."""
    original = submit.submit

    def again(state: Any, batch_id: str, batch: Any) -> Any:
        state.once.pop(batch_id, None)
        return original(state, batch_id, batch)

    return mock.patch.object(submit, "submit", again)


def _expiry_by_renewals_missed() -> AbstractContextManager[Any]:
    """The server gives a member up after half of its lease."""

    def renew(state: Any, me: Any, running: int) -> Any:
        answer = original(state, me, running)
        if answer.status is Status.OK:
            state.members[me.member].expiry = state.clock.lease + state.ttl_ms // 2
        return answer

    original = fleet.renew
    return mock.patch.object(fleet, "renew", renew)


def _revives_the_dead() -> AbstractContextManager[Any]:
    """A renewal of an expired member makes it live again."""

    def standing(state: Any, me: Any) -> Status:
        member = state.members.get(me.member)
        if member is None:
            return Status.LOST
        member.expired = False
        return Status.OK if me.epoch == state.epoch else Status.EPOCH

    return mock.patch.object(fleet, "standing", standing)


def _joins_before_bodies_left() -> AbstractContextManager[Any]:
    """A worker that lost its lease joins again while limited bodies of it are still leaving."""
    return mock.patch.object(Member, "must_wait", lambda _self, _now: 0.0)


def _outcomes_forgotten() -> AbstractContextManager[Any]:
    """Outcomes whose settle was not answered are not sent again, and their jobs are still ours."""
    return mock.patch.object(Floor, "put_back", lambda _self, _ended: None)


def _no_hand_back() -> AbstractContextManager[Any]:
    """A worker that ends keeps what it has not started, and does not leave."""

    async def close(self: Shift) -> None:
        self._crew.exchange.finish()
        await anyio.lowlevel.checkpoint()

    return mock.patch.object(Shift, "close", close)


def _shutdown_is_a_crash() -> AbstractContextManager[Any]:
    """What is handed back counts as a crash of its worker."""

    def hand_back(self: Any, lane: Any, entry: str) -> None:
        lane.crashes[entry] = lane.crashes.get(entry, 0) + 1
        original(self, lane, entry)

    original = state.State.hand_back
    return mock.patch.object(state.State, "hand_back", hand_back)


def _lost_settle_is_success() -> AbstractContextManager[Any]:
    """A refused claim status is taken for an answer: the member goes on although the server has lost it."""
    return mock.patch.object(Exchange, "_heed", lambda _self, _status: None)


def _safety_poll_gone() -> AbstractContextManager[Any]:
    """The dead are noticed by nobody: a claim adopts nothing."""
    return mock.patch.object(state.State, "dead_entries", lambda _self, _lane: 0)


def _cancelled_body_counts_as_done() -> AbstractContextManager[Any]:
    """A body that was cancelled by its timeout is told as a success."""
    original = Consumer._end

    def end(self: Any, delivery: Any, lane: Any, call: Any, now: float, value: Any, failure: Any, astray: bool) -> None:
        if self.reason == "timeout":
            self._succeed(delivery, lane, call, value, now)
        else:
            original(self, delivery, lane, call, now, value, failure, astray)

    return mock.patch.object(Consumer, "_end", end)


MUTANTS: dict[str, Mutant] = {
    "settle by entry alone": _settle_by_entry_alone,
    "settle of any delivery": _settle_of_any_delivery,
    "ack before run": _ack_before_run,
    "no deadline": _no_deadline,
    "deadline without margin": _deadline_without_margin,
    "bodies go on after the lease": _bodies_go_on_after_the_lease,
    "a late answer revives": _late_answer_revives,
    "lost claim forgotten": _lost_claim_forgotten,
    "mine hands back all": _mine_hands_back_all,
    "join keeps nothing": _join_keeps_nothing,
    "release on cancel": _release_on_cancel,
    "no quarantine": _no_quarantine,
    "no epoch": _no_epoch,
    "timeouts unseen": _timeouts_unseen,
    "all due": _all_due,
    "submit twice": _submit_twice,
    "expiry after half a lease": _expiry_by_renewals_missed,
    "revives the dead": _revives_the_dead,
    "joins before bodies left": _joins_before_bodies_left,
    "outcomes forgotten": _outcomes_forgotten,
    "no hand-back": _no_hand_back,
    "a hand-back is a crash": _shutdown_is_a_crash,
    "statuses unheeded": _lost_settle_is_success,
    "nothing adopted": _safety_poll_gone,
    "a timeout is a success": _cancelled_body_counts_as_done,
}
