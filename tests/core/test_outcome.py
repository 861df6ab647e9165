"""An ending as one value for the stream."""

from __future__ import annotations

import msgspec
import pytest

from flowq._codec import Call
from flowq._core.outcome import MOST_LINE, MOST_TEXT, NO_FAILURE, Failure, Job, ended, to_outcome
from flowq._core.verdict import Bury, EndCancelled, Forget, GiveBack, RunAgain
from flowq._model import Again, Cancelled, Dead, Delivery, Released

RAW = b'{"v":1,"task":"resize","args":["a.png"],"future":{"x": 1.0}}'


def job(call: Call | None = None, raw: bytes = RAW) -> Job:
    return Job(Delivery("resize", "1732400000123-4", 1, "ep", 7, 0, raw), call or Call())


def test_the_next_attempt_keeps_every_field_and_gets_an_id() -> None:
    """Unknown fields survive byte for byte; the id is the first entry's, the attempt one more."""
    outcome = to_outcome(RunAgain(1.5, "error"), job(), NO_FAILURE, failure_ttl=60)
    assert isinstance(outcome, Again)
    assert outcome.delay_ms == 1500
    assert b'"future":{"x": 1.0}' in outcome.envelope
    fields = msgspec.json.decode(outcome.envelope)
    assert (fields["id"], fields["attempt"], fields["enqueued_at"]) == (
        "resize:1732400000123-4",
        2,
        1732400000123,
    )


def test_skew_and_hand_backs_do_not_count() -> None:
    """The attempt stays the same, and a hand-back writes nothing at all."""
    skew = to_outcome(RunAgain(1, "skew", counts=False), job(Call(attempt=3)), NO_FAILURE, failure_ttl=60)
    assert isinstance(skew, Again)
    assert msgspec.json.decode(skew.envelope)["attempt"] == 3
    assert isinstance(to_outcome(GiveBack(), job(), NO_FAILURE, failure_ttl=60), Released)
    assert to_outcome(Forget(), job(), NO_FAILURE, failure_ttl=60) is None


def test_age_is_counted_on_the_servers_clock_from_the_first_entry() -> None:
    """The present entry's id and the envelope's ``enqueued_at`` tell; a job that is new has no age."""
    assert job().age == 0
    assert job(Call(enqueued_at=1732400000123 - 9000)).age == 9


def test_a_dead_letter_tells_waiter_and_operator() -> None:
    """Record for the waiter, detail beside the letter; long texts are cut, the traceback at its front."""
    failure = Failure("shop.Bad", "m" * 5000, "t" * 40_000 + "cause")
    outcome = to_outcome(Bury("error", "r" * 5000), job(Call(attempt=6)), failure, failure_ttl=86400)
    assert isinstance(outcome, Dead)
    assert (outcome.kind, len(outcome.reason), outcome.ttl_ms) == ("error", MOST_LINE, 86_400_000)
    record = msgspec.json.decode(outcome.record)
    assert (record["status"], record["kind"], record["type"]) == ("dead", "error", "shop.Bad")
    assert len(record["traceback"]) == MOST_TEXT
    assert record["traceback"].endswith("cause")
    assert msgspec.json.decode(outcome.detail)["attempts"] == 6


def test_text_that_utf8_cannot_hold_does_not_stop_the_letter() -> None:
    """A file name with a lone surrogate in the message is written with backslashes."""
    outcome = to_outcome(
        Bury("error", "no \udcff"), job(), Failure("OSError", "no \udcff", "\udcff"), failure_ttl=1
    )
    assert isinstance(outcome, Dead)
    assert "\\udcff" in outcome.reason
    assert "\\udcff" in msgspec.json.decode(outcome.record)["message"]


def test_bytes_that_are_no_job_cannot_run_again() -> None:
    """A retry that cannot be written becomes a dead letter instead of nothing."""
    outcome = to_outcome(RunAgain(1, "error"), job(raw=b"\xff"), NO_FAILURE, failure_ttl=1)
    assert isinstance(outcome, Dead)
    assert outcome.kind == "undecodable"


def test_the_end_names_what_is_to_be_cleaned_up() -> None:
    """Key with its lane, and whether the job has a row in ``moved``."""
    cancelled = to_outcome(EndCancelled(), job(), NO_FAILURE, failure_ttl=1, cancel_note="why")
    assert isinstance(cancelled, Cancelled)
    assert msgspec.json.decode(cancelled.record) == {"status": "cancelled", "reason": "why"}
    plain = ended(job(), cancelled)
    assert (plain.job_id, plain.key, plain.moved) == ("resize:1732400000123-4", "", False)
    moved = ended(job(Call(id="resize:d1-2", key="k")), cancelled, 12)
    assert (moved.job_id, moved.key, moved.moved, moved.run_ms) == ("resize:d1-2", "resize:k", True, 12)


@pytest.mark.parametrize(("entry", "at"), [("5-1", 5), ("strange", 0)])
def test_entry_ids_tell_when_it_entered(entry: str, at: int) -> None:
    """Another place's entry names need not be times."""
    assert Job(Delivery("l", entry, 1, "e", 1, 0, b""), Call()).entered_at == at
