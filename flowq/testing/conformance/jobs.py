"""Jobs as producers and workers write them: envelopes, records, and the ends of deliveries."""

from __future__ import annotations

import msgspec

from flowq._model import (
    Again,
    Cancelled,
    Dead,
    Delivery,
    Ended,
    LanePolicy,
    Outcome,
    Record,
    Released,
    Succeeded,
)

RECORD_TTL_MS = 60_000


def policy(
    limit: int | None = None,
    *,
    max_crashes: int | None = 3,
    sync: bool = False,
    failure_ttl_ms: int = RECORD_TTL_MS,
) -> LanePolicy:
    return LanePolicy(limit=limit, max_crashes=max_crashes, sync=sync, failure_ttl_ms=failure_ttl_ms)


def record(value: object = None, *, status: str = "succeeded", reason: str = "") -> bytes:
    """A record as a worker writes it."""
    return msgspec.json.encode({"status": status, "value": value, "reason": reason})


class _Envelope(msgspec.Struct):
    id: str = ""
    key: str = ""


def envelope_id(raw: bytes) -> str:
    """The id in an envelope, empty if its job's id is that of its first entry."""
    return msgspec.json.decode(raw, type=_Envelope).id


def job_id(delivery: Delivery) -> str:
    """The public id of a delivered job."""
    return envelope_id(delivery.raw) or f"{delivery.lane}:{delivery.entry}"


def ended(delivery: Delivery, outcome: Outcome) -> Ended:
    """The end of a delivery as its worker reports it."""
    envelope = msgspec.json.decode(delivery.raw, type=_Envelope)
    key = f"{delivery.lane}:{envelope.key}" if envelope.key else ""
    return Ended(delivery, outcome, job_id(delivery), key=key, moved=bool(envelope.id))


def succeeded(delivery: Delivery, value: object = None, *, ttl_ms: int = RECORD_TTL_MS) -> Ended:
    return ended(delivery, Succeeded(record(value), ttl_ms))


def done(delivery: Delivery) -> Ended:
    """Succeeded, with no result kept."""
    return ended(delivery, Succeeded(None, 0))


def released(delivery: Delivery) -> Ended:
    return ended(delivery, Released())


def cancelled(delivery: Delivery, reason: str = "") -> Ended:
    return ended(delivery, Cancelled(record(status="cancelled", reason=reason), RECORD_TTL_MS))


def dead(delivery: Delivery, reason: str = "no good") -> Ended:
    body = msgspec.json.encode(Record(status="dead", kind="error", message=reason))
    return ended(delivery, Dead("error", reason, body, RECORD_TTL_MS, b"{}"))


def again(delivery: Delivery, *, delay: float, attempt: int = 2) -> Ended:
    """Run it again after ``delay`` seconds, with the id and the new attempt in its envelope."""
    fields = msgspec.json.decode(delivery.raw)
    fields |= {"id": job_id(delivery), "attempt": attempt}
    return ended(delivery, Again(msgspec.json.encode(fields), round(delay * 1000), "error"))
