"""What became of it. Rule 8: an outcome counts only for the very delivery that its sender still owns."""

from __future__ import annotations

from collections.abc import Sequence

from flowq._model import Again, Cancelled, Dead, Ended, Refusal, Released, Settled, Status, Succeeded
from flowq.backends.memory.fleet import owns
from flowq.backends.memory.jobs import cancelled_record, end_entry
from flowq.backends.memory.rows import DeadLetter, Lane
from flowq.backends.memory.state import State
from flowq.backends.memory.submit import enter
from flowq.backends.protocol import Standing

CANCELLED_TTL_MS = 86_400_000
"""How long a record is kept of a job that failed while it was asked to stop, and is not run again."""


def settle(state: State, me: Standing, ended: Sequence[Ended]) -> Settled:
    """Apply the outcomes, each on its own: one that is refused changes nothing.

    There is no test of liveness: ownership moves in one step, so owner, n and epoch decide.
    """
    if me.epoch != state.epoch:
        return Settled(Status.EPOCH)
    refused = [
        (one.delivery, why) for one in ended if (why := _settle_one(state, me.member, one)) is not None
    ]
    return Settled(Status.OK, refused)


def _settle_one(state: State, member: str, ended: Ended) -> Refusal | None:
    delivery = ended.delivery
    lane = state.lanes.get(delivery.lane)
    if lane is None or delivery.entry not in lane.pending:
        return Refusal.GONE
    if not owns(lane, delivery, member):
        return Refusal.FENCED
    match ended.outcome:
        case Released():
            state.hand_back(lane, delivery.entry)
        case Again():
            _again(state, lane, ended, ended.outcome)
        case Dead() as dead:
            _bury(state, lane, ended, dead)
            _end(state, lane, ended, dead.record, dead.ttl_ms)
        case Succeeded(record, ttl_ms) | Cancelled(record, ttl_ms):
            _end(state, lane, ended, record, ttl_ms)
    return None


def _end(state: State, lane: Lane, ended: Ended, record: bytes | None, ttl_ms: int) -> None:
    entry = ended.delivery.entry
    end_entry(state, lane, entry, job_id=ended.job_id, key=ended.key, record=record, ttl_ms=ttl_ms)


def _bury(state: State, lane: Lane, ended: Ended, dead: Dead) -> None:
    entry, now = ended.delivery.entry, state.clock.now
    raw = lane.pending[entry].raw
    letter = DeadLetter(ended.job_id, lane.name, entry, raw, dead.kind, dead.reason, dead.detail, at_ms=now)
    state.dead.append(letter)


def _again(state: State, lane: Lane, ended: Ended, again: Again) -> None:
    """Leave the stream and come back later under the same id; but a cancellation that was asked for meanwhile wins."""
    entry = ended.delivery.entry
    reason = state.cancels.get((lane.name, entry))
    if reason is not None:
        _end(state, lane, ended, cancelled_record(reason), CANCELLED_TTL_MS)
        return
    lane.drop(entry)
    state.cap(lane)
    if again.delay_ms > 0:
        state.moved.pop(ended.job_id, None)
        state.postpone(ended.job_id, lane.name, bytes(again.envelope), again.delay_ms)
    else:
        state.moved[ended.job_id] = (lane.name, enter(state, lane.name, again.envelope))
