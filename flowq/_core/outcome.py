"""An ending as one value: everything that the settle script writes for it."""

from __future__ import annotations

import attrs
import msgspec

from flowq._codec import Call, Undecodable, encode_record, job_id, reencode
from flowq._core.verdict import Bury, EndCancelled, Forget, RunAgain, Verdict
from flowq._model import Again, Cancelled, Dead, Delivery, Ended, Outcome, Record, Released

MOST_TEXT = 16_384
"""Characters of a traceback that are kept: its end, where the cause is."""
MOST_LINE = 2_000
"""Characters of a message or reason."""


@attrs.frozen
class Failure:
    """What is told of an exception: texts only, made by whoever caught it."""

    type: str = ""
    message: str = ""
    traceback: str = ""


NO_FAILURE = Failure()


@attrs.frozen
class Job:
    """A delivery with what could be read of its envelope."""

    delivery: Delivery
    call: Call

    @property
    def id(self) -> str:
        return job_id(self.delivery.lane, self.delivery.entry, self.call)

    @property
    def entered_at(self) -> int:
        """Unix ms, by the server's clock, at which it entered its stream this time."""
        ms, _, _ = self.delivery.entry.partition("-")
        return int(ms) if ms.isdecimal() else 0

    @property
    def age(self) -> float:
        """Seconds between its first entry, as far as the envelope tells, and the present one."""
        first = self.call.enqueued_at or self.entered_at
        return max(0, self.entered_at - first) / 1000


def ended(job: Job, outcome: Outcome, run_ms: int = 0) -> Ended:
    """The outcome with what the place must clean up beside the entry."""
    call = job.call
    key = f"{job.delivery.lane}:{call.key}" if call.key else ""
    return Ended(job.delivery, outcome, job.id, key, bool(call.id), run_ms)


def to_outcome(
    verdict: Verdict, job: Job, failure: Failure, *, failure_ttl: float, cancel_note: str = ""
) -> Outcome | None:
    """What is written for a verdict. None: nothing is.

    Args:
        failure: what the body raised.
        failure_ttl: seconds for which a waiter can learn of it.
        cancel_note: what the canceller said.
    """
    ttl_ms = round(failure_ttl * 1000)
    match verdict:
        case RunAgain():
            return _again(verdict, job, failure, ttl_ms)
        case Bury():
            return dead(verdict, job, failure, ttl_ms)
        case EndCancelled():
            return Cancelled(
                encode_record(Record(status="cancelled", reason=cancel_note[:MOST_LINE])), ttl_ms
            )
        case Forget():
            return None
        case _:
            return Released()


def _again(verdict: RunAgain, job: Job, failure: Failure, ttl_ms: int) -> Outcome:
    attempt = job.call.attempt + verdict.counts
    try:
        envelope = reencode(job.delivery.raw, job_id=job.id, attempt=attempt, enqueued_at=job.entered_at)
    except Undecodable as exc:  # it could be read a moment ago; a job is buried rather than lost
        return dead(Bury("undecodable", str(exc)), job, failure, ttl_ms)
    return Again(envelope, round(verdict.delay * 1000), verdict.why)


def dead(verdict: Bury, job: Job, failure: Failure, ttl_ms: int) -> Dead:
    """A dead letter, and the record for whoever waits."""
    reason, message = _cut(verdict.reason), _cut(failure.message or verdict.reason)
    text = failure.traceback[-MOST_TEXT:]
    record = Record(
        status="dead", kind=verdict.kind, type=failure.type, message=message, traceback=text, reason=reason
    )
    detail: dict[str, str | int] = {
        "type": failure.type,
        "message": message,
        "traceback": text,
        "attempts": job.call.attempt,
    }
    return Dead(
        verdict.kind, _clean(reason), encode_record(record), ttl_ms, msgspec.json.encode(_all_clean(detail))
    )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LINE else text[: MOST_LINE - 1] + "…"


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate (from a file name) is written with backslashes."""
    return text.encode(errors="backslashreplace").decode()


def _all_clean(detail: dict[str, str | int]) -> dict[str, str | int]:
    return {name: _clean(value) if isinstance(value, str) else value for name, value in detail.items()}
