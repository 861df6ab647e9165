"""Is a failed job worth another attempt, and when?

An exception may be a group, and the group of a body's own nursery hides what the body meant: everything here looks at the
leaves. ``Reject`` beats ``Retry``; of several ``Retry`` the longest wait wins; one leaf that is not worth retrying decides for
its group, since it would fail again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from flowq._errors import Reject, Retry

SKEW_SHORTEST = 2.0
SKEW_LONGEST = 60.0


class Backoff(Protocol):
    """How long to wait before the next attempt."""

    def wait(self, attempt: int, draw: float, /) -> float:
        """Seconds after attempt number ``attempt`` (1, 2, …) failed; ``draw`` is random in [0, 1)."""
        ...


class Policy(Protocol):
    """What a task says of its failures."""

    @property
    def timeout(self) -> float | None: ...
    @property
    def retries(self) -> int: ...
    @property
    def backoff(self) -> Backoff: ...
    @property
    def retry_on(self) -> tuple[type[BaseException], ...]: ...
    @property
    def no_retry_on(self) -> tuple[type[BaseException], ...]: ...


@attrs.frozen
class Attempts:
    """How far a job has come. ``retries`` is its own number of further attempts, or None: its task's."""

    attempt: int
    retries: int | None = None
    timeout: float | None = None
    """Seconds that this attempt was given."""

    def left(self, policy: Policy) -> int:
        """Further attempts that it still has."""
        retries = policy.retries if self.retries is None else self.retries
        return max(0, retries - (self.attempt - 1))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that are no groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def find_reject(error: BaseException) -> Reject | None:
    """The body's word that the job can never succeed."""
    return next((leaf for leaf in leaves(error) if isinstance(leaf, Reject)), None)


def find_retry(error: BaseException) -> Retry | None:
    """The body's wish to run again; of several the one that waits longest (None, the task's backoff, counts as shortest)."""
    wishes = [leaf for leaf in leaves(error) if isinstance(leaf, Retry)]
    return max(wishes, key=lambda wish: -1.0 if wish.after is None else wish.after, default=None)


def is_retryable(policy: Policy, error: BaseException) -> bool:
    """Do the task's ``retry_on`` and ``no_retry_on`` allow another attempt after this?"""
    return all(
        isinstance(leaf, policy.retry_on) and not isinstance(leaf, policy.no_retry_on)
        for leaf in leaves(error)
    )


def wait_after(policy: Policy, attempt: int, asked: float | None, draw: float) -> float:
    """Seconds until the next attempt: what the body asked for, else the task's backoff."""
    return policy.backoff.wait(attempt, draw) if asked is None else asked


def skew_wait(age: float, draw: float) -> float:
    """Seconds until arguments that do not fit are tried again.

    Nothing counts these tries, so the wait grows with the job's ``age`` (seconds since it was first seen not to fit).
    """
    full = min(SKEW_LONGEST, max(SKEW_SHORTEST, age / 2))
    return full / 2 + full / 2 * draw
