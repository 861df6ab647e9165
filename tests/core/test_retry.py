"""What an ending means and when a job runs again, without a loop, a server or luck."""

from __future__ import annotations

import pytest

from flowq._core.retry import Attempts, find_reject, find_retry, is_retryable, skew_wait, wait_after
from flowq._errors import Reject, Retry
from flowq._options import Backoff, TaskPolicy

POLICY = TaskPolicy(retries=2, backoff=Backoff(base=2, factor=4, jitter=0.5))


@pytest.mark.parametrize(
    ("attempt", "own", "left"), [(1, None, 2), (3, None, 0), (9, None, 0), (1, 0, 0), (1, 7, 7)]
)
def test_further_attempts_are_counted_after_the_first(attempt: int, own: int | None, left: int) -> None:
    """``retries=2`` is up to 3 runs; a job's own number stands in place of its task's."""
    assert Attempts(attempt, own).left(POLICY) == left


def test_the_body_may_say_how_long_to_wait() -> None:
    """``Retry(after=…)`` stands in place of the backoff; without it the backoff grows with the attempts."""
    assert wait_after(POLICY, 1, 0.5, 0.9) == 0.5
    assert [wait_after(POLICY, attempt, None, 1.0) for attempt in (1, 2, 3)] == [2, 8, 32]
    assert wait_after(POLICY, 1, None, 0.0) == 1


def test_the_longest_wait_of_a_group_wins() -> None:
    """Several children of a body's nursery may ask; None counts as the shortest."""
    group = ExceptionGroup(
        "g", [Retry(after=1), ExceptionGroup("h", [Retry(after=7), Retry()]), ValueError()]
    )
    found = find_retry(group)
    assert found is not None
    assert found.after == 7
    assert find_retry(ValueError()) is None
    assert find_reject(ExceptionGroup("g", [Retry(), Reject("x")])) is not None


def test_one_leaf_that_is_not_worth_it_decides_for_its_group() -> None:
    """It would fail again, whatever its siblings would do."""
    policy = TaskPolicy(retry_on=(OSError,), no_retry_on=(FileNotFoundError,))
    assert is_retryable(policy, ConnectionError())
    assert is_retryable(policy, ExceptionGroup("g", [ConnectionError(), TimeoutError()]))
    assert not is_retryable(policy, ExceptionGroup("g", [ConnectionError(), ValueError()]))
    assert not is_retryable(policy, FileNotFoundError())
    assert not is_retryable(POLICY, SystemExit())


def test_skew_is_tried_again_soon_then_rarely() -> None:
    """Nothing counts these tries: the wait grows with the job's age, up to a minute."""
    assert skew_wait(0, 1.0) == 2
    assert skew_wait(0, 0.0) == 1
    assert skew_wait(100, 1.0) == 50
    assert skew_wait(800, 1.0) == 60
