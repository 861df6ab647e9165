"""Backoff and verdicts, for all numbers and all shapes of groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq._core.retry import Attempts, leaves, skew_wait
from flowq._core.verdict import Bury, EndCancelled, Forget, GiveBack, RunAgain, judge
from flowq._errors import Reject, Retry
from flowq._model import CancelReason
from flowq._options import Backoff, TaskPolicy

seconds = st.floats(0, 1e6)
draws = st.floats(0, 1, exclude_max=True)
backoffs = st.builds(Backoff, base=seconds, factor=st.floats(1, 1e6), maximum=seconds, jitter=st.floats(0, 1))
simple = st.one_of(
    st.builds(ValueError),
    st.builds(OSError),
    st.builds(SystemExit),
    st.builds(KeyboardInterrupt),
    st.builds(Reject, st.text(max_size=5)),
    st.builds(Retry, st.one_of(st.none(), seconds)),
)
errors = st.recursive(
    simple,
    lambda inner: st.builds(BaseExceptionGroup, st.just("g"), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=8,
)
reasons: st.SearchStrategy[CancelReason | None] = st.sampled_from(
    [None, "cancelled", "timeout", "shutdown", "lease_lost"]
)
policies = st.builds(TaskPolicy, retries=st.integers(0, 10), backoff=backoffs)
attempts = st.builds(Attempts, st.integers(1, 2000), st.one_of(st.none(), st.integers(0, 2000)))


@given(backoffs, st.integers(1, 10**9), draws, draws)
def test_a_wait_is_bounded_and_grows_with_attempt_and_draw(
    backoff: Backoff, attempt: int, one: float, other: float
) -> None:
    """Never negative, never above the maximum, whatever the attempt's number; never shorter for a later attempt or a larger draw."""
    wait = backoff.wait(attempt, one)
    assert 0 <= wait <= backoff.maximum
    assert wait <= backoff.wait(attempt + 1, one) * (1 + 1e-9)
    low, high = sorted((one, other))
    assert backoff.wait(attempt, low) <= backoff.wait(attempt, high)
    assert wait >= backoff.wait(attempt, 0.0)


@given(policies, attempts, errors, reasons, draws)
def test_no_job_runs_more_often_than_it_may(
    policy: TaskPolicy, tries: Attempts, error: BaseException, reason: CancelReason | None, draw: float
) -> None:
    """A verdict that counts an attempt needs one that is left; its wait is what was asked for, or the backoff's."""
    verdict = judge(policy, tries, error, reason, draw)
    if isinstance(verdict, RunAgain):
        assert tries.left(policy) > 0
        assert verdict.counts
        asked = [leaf.after for leaf in leaves(error) if isinstance(leaf, Retry) and leaf.after is not None]
        assert verdict.delay in asked or 0 <= verdict.delay <= policy.backoff.maximum


@given(policies, attempts, errors, reasons, draws)
def test_each_reason_leaves_its_verdicts(
    policy: TaskPolicy, tries: Attempts, error: BaseException, reason: CancelReason | None, draw: float
) -> None:
    """A lost lease writes nothing; an interrupt never costs the job; Reject beats Retry; a shutdown never uses up an attempt by
    itself.
    """
    verdict = judge(policy, tries, error, reason, draw)
    found = list(leaves(error))
    interrupted = any(isinstance(leaf, KeyboardInterrupt) for leaf in found)
    if reason == "lease_lost":
        assert verdict == Forget()
    elif interrupted:
        assert verdict == GiveBack()
    elif reason == "cancelled":
        assert verdict == EndCancelled()
    elif any(isinstance(leaf, Reject) for leaf in found):
        assert isinstance(verdict, Bury)
        assert verdict.kind == "rejected"
    elif reason == "shutdown" and not any(isinstance(leaf, Retry) for leaf in found):
        assert verdict == GiveBack()
    else:
        assert isinstance(verdict, RunAgain | Bury)


@given(st.floats(0, 1e9), draws)
def test_skew_waits_a_bounded_time(age: float, draw: float) -> None:
    """Between a second and a minute."""
    assert 1 <= skew_wait(age, draw) <= 60
