"""Jobs come in: now, later, or again when they are due."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from flowq._model import Receipt, Submission
from flowq.backends.memory.jobs import scoped
from flowq.backends.memory.rows import identity
from flowq.backends.memory.state import State

RESEND_MS = 120_000
"""How long the same batch may be sent again (P6)."""


def submit(state: State, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
    """Store a batch once. Sent again, it stores nothing and says what it said the first time."""
    before = state.once.get(batch_id)
    if before is not None:
        return before[1]
    receipts = [_store(state, job) for job in batch]
    state.once[batch_id] = (state.clock.waiting + RESEND_MS, receipts)
    for lane in {job.lane: None for job in batch}:
        state.ring(lane)
    return receipts


def _store(state: State, job: Submission) -> Receipt:
    key = scoped(job.lane, job.key)
    if key and key in state.keys:
        return Receipt(state.keys[key], created=False)
    delay = max(job.delay_ms, job.at_ms - state.clock.now if job.at_ms else 0)
    job_id = _later(state, job, delay) if delay > 0 else _now(state, job.lane, job.envelope)
    if key:
        state.keys[key] = job_id
    return Receipt(job_id, created=True)


def _now(state: State, lane: str, envelope: bytes) -> str:
    return f"{lane}:{enter(state, lane, envelope)}"


def _later(state: State, job: Submission, delay_ms: int) -> str:
    job_id = f"{job.lane}:d{state.clock.now}-{state.counter + 1}"
    state.postpone(job_id, job.lane, named(job.envelope, job_id), delay_ms)
    return job_id


def named(envelope: bytes, job_id: str) -> bytes:
    """The envelope with the id of a job that will not be found under its entry.

    Put in front, byte by byte as the Lua does it: what else is in the envelope must come out as it went in. What is no JSON
    object stays as it is; its worker makes a dead letter of it.
    """
    body = envelope.strip()
    if not body.startswith(b"{") or identity(body).id:
        return envelope
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"id":' + msgspec.json.encode(job_id) + comma + rest


def enter(state: State, lane: str, envelope: bytes) -> str:
    """Append to the lane's stream. Returns the entry id."""
    found = state.lane(lane)
    entry = found.mint(state.clock.now)
    found.put(entry, bytes(envelope))
    return entry


def promote(state: State) -> float | None:
    """Move what is due into its stream. Returns seconds until the next one is due; None: there is none."""
    lanes: dict[str, None] = {}
    while state.next_due() == 0:
        _, _, job_id = heapq.heappop(state.due)
        job = state.delayed.pop(job_id)
        state.moved[job_id] = (job.lane, enter(state, job.lane, job.raw))
        lanes[job.lane] = None
    for lane in lanes:
        state.ring(lane)
    return state.next_due()
