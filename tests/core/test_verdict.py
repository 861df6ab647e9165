"""From how a body ended to what becomes of its job: the table, row by row."""

from __future__ import annotations

import pytest

from flowq._core.retry import Attempts
from flowq._core.verdict import (
    Bury,
    EndCancelled,
    Forget,
    GiveBack,
    RunAgain,
    StrayCancellation,
    describe,
    judge,
    judge_skew,
)
from flowq._errors import Reject, Retry
from flowq._model import CancelReason
from flowq._options import Backoff, TaskPolicy

POLICY = TaskPolicy(retries=1, backoff=Backoff(base=2, factor=1, jitter=0))
FIRST, LAST = Attempts(1), Attempts(2)


class Cancelled(BaseException):
    """Stands for the event loop's own."""


@pytest.mark.parametrize(
    ("error", "attempts", "reason", "verdict"),
    [
        (ValueError("x"), FIRST, None, RunAgain(2.0, "error")),
        (ValueError("x"), LAST, None, Bury("error", "ValueError: x")),
        (SystemExit(1), FIRST, None, Bury("error", "SystemExit: 1")),
        (GeneratorExit(), FIRST, None, Bury("error", "GeneratorExit")),
        (StrayCancellation("x"), FIRST, None, RunAgain(2.0, "error")),
        (Retry(after=9), FIRST, None, RunAgain(9.0, "asked")),
        (Retry(), FIRST, None, RunAgain(2.0, "asked")),
        (Retry(reason="busy"), LAST, None, Bury("error", "busy (no attempts left)")),
        (Reject("bad"), FIRST, None, Bury("rejected", "bad")),
        (ExceptionGroup("g", [Retry(), Reject("bad")]), FIRST, None, Bury("rejected", "bad")),
        (KeyboardInterrupt(), LAST, None, GiveBack()),
        (BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()]), LAST, None, GiveBack()),
        (Cancelled(), FIRST, "timeout", RunAgain(2.0, "timeout", reason="the attempt ran out of time")),
        (Cancelled(), LAST, "timeout", Bury("timeout", "the attempt ran out of time")),
        (OSError("while leaving"), LAST, "timeout", Bury("timeout", "the attempt ran out of time")),
        (Reject("bad"), FIRST, "timeout", Bury("rejected", "bad")),
        (Cancelled(), LAST, "shutdown", GiveBack()),
        (OSError("while leaving"), LAST, "shutdown", GiveBack()),
        (Reject("bad"), FIRST, "shutdown", Bury("rejected", "bad")),
        (Cancelled(), FIRST, "cancelled", EndCancelled()),
        (OSError("while leaving"), FIRST, "cancelled", EndCancelled()),
        (Reject("bad"), FIRST, "cancelled", EndCancelled()),
        (Cancelled(), FIRST, "lease_lost", Forget()),
        (OSError("while leaving"), LAST, "lease_lost", Forget()),
        (KeyboardInterrupt(), LAST, "lease_lost", Forget()),
    ],
)
def test_each_ending_has_its_verdict(
    error: BaseException, attempts: Attempts, reason: CancelReason | None, verdict: object
) -> None:
    """The cancellation decides over what was raised because of it; an explicit word of the body counts unless the job is gone."""
    assert judge(POLICY, attempts, error, reason, 0.5) == verdict


def test_a_timeout_is_a_timeouterror_to_retry_on() -> None:
    """Who does not want it tried again says so the usual way."""
    policy = TaskPolicy(retries=5, no_retry_on=(TimeoutError,))
    assert judge(policy, FIRST, Cancelled(), "timeout", 0.5) == Bury("timeout", "the attempt ran out of time")


def test_a_timeout_says_how_long_it_was() -> None:
    """Retried or not: what our own cancellation raised would say nothing to whoever reads it."""
    said = "the attempt ran out of time (timeout 0.5 s)"
    last = judge(POLICY, Attempts(1, 0, 0.5), Cancelled(), "timeout", 0.5)
    again = judge(POLICY, Attempts(1, 3, 0.5), Cancelled(), "timeout", 0.5)
    assert (last, getattr(again, "reason", None)) == (Bury("timeout", said), said)


def test_skew_waits_for_another_version_until_its_window_is_over() -> None:
    """Not counted as an attempt while it waits; then a dead letter that can be replayed."""
    again = judge_skew(10, 900, "no parameter 'width'", 1.0)
    assert again == RunAgain(5.0, "skew", counts=False, reason="no parameter 'width'")
    assert judge_skew(900, 900, "no parameter 'width'", 1.0) == Bury("skew", "no parameter 'width'")


def test_a_group_is_described_by_its_leaves() -> None:
    """One line for logs and reasons."""
    assert describe(ExceptionGroup("g", [ValueError("a"), OSError()])) == "ValueError: a; OSError"
