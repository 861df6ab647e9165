"""What an ending means: from how a body ended to what becomes of its job.

A body that returned has succeeded, however late its cancellation came; so this room hears only of bodies that raised. What they
raised while being cancelled is not held against them: the cancellation decides, unless the body said ``Reject`` or ``Retry``.

======================  ==========================================================================================
cancelled because       the job
======================  ==========================================================================================
cancelled               ends as cancelled
lease_lost              is somebody else's by now: nothing is written
shutdown                goes back, neither an attempt nor a crash
timeout                 has used up an attempt
not at all              ``Reject``: dead letter; ``Retry``: again; any other exception: an attempt is used up
======================  ==========================================================================================

A ``KeyboardInterrupt`` is meant for the process, not for the body that it happened to strike: the job goes back.
"""

from __future__ import annotations

from typing import Literal

import attrs

from flowq._core.retry import (
    Attempts,
    Policy,
    find_reject,
    find_retry,
    is_retryable,
    leaves,
    skew_wait,
    wait_after,
)
from flowq._errors import FailureKind
from flowq._model import CancelReason


@attrs.frozen
class RunAgain:
    """Into the delayed jobs, or back into its stream at once."""

    delay: float
    """Seconds."""
    why: Literal["error", "timeout", "asked", "skew"]
    counts: bool = True
    """It is the next attempt; otherwise the same one once more."""
    reason: str = ""
    """For people; empty: what the body raised says it."""


@attrs.frozen
class Bury:
    """A dead letter."""

    kind: FailureKind
    reason: str


@attrs.frozen
class EndCancelled:
    """It ends as cancelled."""


@attrs.frozen
class GiveBack:
    """To anybody, at once, uncounted."""


@attrs.frozen
class Forget:
    """Write nothing: it is not ours any more."""


Verdict = RunAgain | Bury | EndCancelled | GiveBack | Forget


class StrayCancellation(Exception):
    """A body raised a cancellation that nobody had asked for, as ``await`` of a cancelled asyncio task does: its own failure."""


def judge(
    policy: Policy, attempts: Attempts, error: BaseException, cancelled: CancelReason | None, draw: float
) -> Verdict:
    """Decide about a job whose body raised.

    Args:
        policy: of its task.
        attempts: how far the job has come, this attempt included.
        error: what the body raised; what our own cancellation raised, if ``cancelled``.
        cancelled: why we cancelled it; None: we did not.
        draw: random in [0, 1), for the backoff.
    """
    if cancelled == "lease_lost":
        return Forget()
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error)):
        return GiveBack()
    if cancelled == "cancelled":
        return EndCancelled()
    if (reject := find_reject(error)) is not None:
        return Bury("rejected", str(reject))
    left = attempts.left(policy)
    if (wish := find_retry(error)) is not None:
        if left:
            return RunAgain(wait_after(policy, attempts.attempt, wish.after, draw), "asked")
        return Bury("error", f"{wish} (no attempts left)")
    if cancelled == "shutdown":
        return GiveBack()
    if cancelled == "timeout":
        if left and is_retryable(policy, TimeoutError()):
            again = wait_after(policy, attempts.attempt, None, draw)
            return RunAgain(again, "timeout", reason=out_of_time(attempts.timeout))
        return Bury("timeout", out_of_time(attempts.timeout))
    if left and (isinstance(error, StrayCancellation) or is_retryable(policy, error)):
        return RunAgain(wait_after(policy, attempts.attempt, None, draw), "error")
    return Bury("error", describe(error))


def judge_skew(age: float, window: float, reason: str, draw: float) -> Verdict:
    """Decide about a job whose arguments do not fit this version of its task.

    Args:
        age: seconds since it was first seen not to fit, by the server's clock.
        window: seconds for which it is tried again, here or elsewhere.
        reason: what does not fit.
        draw: random in [0, 1).
    """
    if age < window:
        return RunAgain(skew_wait(age, draw), "skew", counts=False, reason=reason)
    return Bury("skew", reason)


def out_of_time(timeout: float | None) -> str:
    """One line about a timeout: what our own cancellation raised says nothing to anybody."""
    return "the attempt ran out of time" + ("" if timeout is None else f" (timeout {timeout:g} s)")


def describe(error: BaseException) -> str:
    """One line: the type and the message, of a group its leaves'."""
    return "; ".join(
        f"{type(leaf).__qualname__}: {leaf}" if str(leaf) else type(leaf).__qualname__
        for leaf in leaves(error)
    )
