"""From a job's id to the job, and the one way in which a job ends."""

from __future__ import annotations

import heapq

import msgspec

from flowq._model import HANDED_BACK, CancelAnswer, JobStatus, Record
from flowq.backends.memory.rows import Lane, identity, job_id_of
from flowq.backends.memory.state import State

_ENDED = {"succeeded": JobStatus.SUCCEEDED, "dead": JobStatus.DEAD, "cancelled": JobStatus.CANCELLED}
_records = msgspec.json.Decoder(Record)


def end(state: State, job_id: str, key: str, record: bytes | None, ttl_ms: int) -> None:
    """A job is over: keep its record, free its key, wake its waiters. Its entry has been dropped by the caller.

    ``key`` is ``<lane>:<key>`` or empty; ``ttl_ms`` is how long the record is kept, on the waiting clock.
    """
    state.moved.pop(job_id, None)
    if key and state.keys.get(key) == job_id:
        del state.keys[key]
    if record is not None:
        expires = state.clock.waiting + ttl_ms
        state.records[job_id] = (record, expires)
        heapq.heappush(state.expiries, (expires, job_id))
    state.effects.jobs.add(job_id)


def end_entry(
    state: State, lane: Lane, entry: str, *, job_id: str, key: str, record: bytes | None, ttl_ms: int
) -> None:
    """End the job in this entry, which leaves its stream."""
    lane.drop(entry)
    state.cancels.pop((lane.name, entry), None)
    state.cap(lane)
    end(state, job_id, key, record, ttl_ms)


def scoped(lane: str, key: str) -> str:
    """An idempotency key holds within its lane."""
    return f"{lane}:{key}" if key else ""


def prune(state: State) -> None:
    """Forget the records and the batch markers whose time is over."""
    now = state.clock.waiting
    while state.expiries and state.expiries[0][0] <= now:
        expires, job_id = heapq.heappop(state.expiries)
        if state.records.get(job_id, (b"", 0))[1] == expires:
            del state.records[job_id]
    while state.once and next(iter(state.once.values()))[0] <= now:
        state.once.popitem(last=False)


def locate(state: State, job_id: str) -> tuple[Lane, str] | None:
    """The stream entry in which this job lies now; None: in none."""
    name, _, entry = job_id.rpartition(":")
    name, entry = state.moved.get(job_id, (name, entry))
    lane = state.lanes.get(name)
    if lane is None:
        return None
    pending = lane.pending.get(entry)
    raw = lane.unread.get(entry) if pending is None else pending.raw
    if raw is None or job_id_of(name, entry, raw) != job_id:
        return None
    return lane, entry


def status(state: State, job_id: str) -> JobStatus:
    """Where a job is, as far as this server shows."""
    if job_id in state.records:
        return _ENDED[_decode(state.records[job_id][0]).status]
    if job_id in state.delayed:
        return JobStatus.DELAYED
    place = locate(state, job_id)
    if place is None:
        return JobStatus.UNKNOWN
    lane, entry = place
    if not _started(lane, entry):
        return JobStatus.READY
    return JobStatus.CANCELLING if (lane.name, entry) in state.cancels else JobStatus.RUNNING


def record(state: State, job_id: str) -> Record | None:
    """The record that is kept of an ended job."""
    kept = state.records.get(job_id)
    return None if kept is None else _decode(kept[0])


def cancel(state: State, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
    """Remove a job that has not started; of one that has, leave word for its worker.

    A job of a dead member counts as started until somebody adopts it: its body may still run (unlimited lanes).
    """
    if job_id in state.records:
        return CancelAnswer.ALREADY_DONE
    delayed = state.delayed.pop(job_id, None)
    if delayed is not None:
        end(state, job_id, scoped(delayed.lane, identity(delayed.raw).key), record, ttl_ms)
        return CancelAnswer.REMOVED
    place = locate(state, job_id)
    if place is None:
        return CancelAnswer.UNKNOWN
    lane, entry = place
    if _started(lane, entry):
        state.cancels[lane.name, entry] = reason
        state.effects.control = True
        return CancelAnswer.REQUESTED
    pending = lane.pending.get(entry)
    raw = lane.unread[entry] if pending is None else pending.raw
    key = scoped(lane.name, identity(raw).key)
    end_entry(state, lane, entry, job_id=job_id, key=key, record=record, ttl_ms=ttl_ms)
    state.ring(lane.name)
    return CancelAnswer.REMOVED


def cancelled_record(reason: str) -> bytes:
    """The record of a job that the server itself ends, because somebody wanted it gone."""
    return msgspec.json.encode(Record(status="cancelled", reason=reason))


def _started(lane: Lane, entry: str) -> bool:
    return entry in lane.pending and lane.pending[entry].owner != HANDED_BACK


def _decode(raw: bytes) -> Record:
    return _records.decode(raw)
