"""What is said, and how much of it."""

from __future__ import annotations

import logging

import pytest

from flowq._runtime.events import MOST, WINDOW, Events, printable
from flowq._runtime.failure import tell


def test_an_event_is_said_a_few_times_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Ten within ten seconds; the next one after that tells how many were not said. Each name for itself."""
    now = 0.0
    events = Events(lambda: now)
    with caplog.at_level(logging.INFO):
        for i in range(MOST + 5):
            events.say(logging.INFO, "job.retry", "number %d", i, job=i)
        events.say(logging.INFO, "lease.lost", "once")
        now = WINDOW
        events.say(logging.INFO, "job.retry", "number %d", 99)
        events.say(logging.INFO, "job.retry", "number %d", 100)
    said = [record.getMessage() for record in caplog.records if record.event == "job.retry"]
    assert said == [*(f"number {i}" for i in range(MOST)), "number 99 (5 more of these before)", "number 100"]
    assert events.counts == {"job.retry": MOST + 7, "lease.lost": 1}
    assert {record.name for record in caplog.records} == {"flowq.job", "flowq.lease"}
    assert caplog.records[3].facts == {"job": 3}


def test_outside_text_cannot_forge_a_log_line() -> None:
    """No control characters, one line, not long."""
    assert printable("a\nERROR: all is lost\x1b[2J") == "a ERROR: all is lost [2J"
    assert len(printable("x" * 10_000)) == 500


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_failure_is_told_without_our_own_frames() -> None:
    """Type with its module, message, the body's frames; of a group all of them."""

    def body() -> None:
        raise KeyError("which")

    try:
        body()
    except KeyError as exc:
        failure = tell(exc)
    assert (failure.type, failure.message) == ("KeyError", "'which'")
    assert 'raise KeyError("which")' in failure.traceback
    group = tell(ExceptionGroup("two", [ValueError("a"), OSError("b")]))
    assert group.type == "ExceptionGroup"
    assert "ValueError: a" in group.traceback
    assert "OSError: b" in group.traceback


def test_an_exception_that_cannot_be_read_is_told_all_the_same() -> None:
    """Its own ``__str__`` raises; the worker does not."""
    failure = tell(Unreadable())
    assert failure.type.endswith("Unreadable")
    assert "cannot be read" in failure.message
    assert failure.traceback
