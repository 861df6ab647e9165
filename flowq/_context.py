"""What a running body can ask about itself.

What this room does: holds the job of the present context. What it will not do: set it (the consumer does, per job).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar

import anyio
import msgspec

from flowq._model import CancelReason


class RunningJob(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """The job whose body is running here. The runtime keeps it up to date; do not write to it."""

    id: str
    task: str
    attempt: int = 1
    """1 for the first run; retries, timeouts and errors count, crashes and hand-backs do not."""
    deliveries: int = 1
    """How often this attempt was handed to a worker."""
    fence: int = 0
    """Grows with every delivery of the app: give it to an outside resource, so that it can refuse a stale body."""
    cancel_reason: CancelReason | None = None
    """Why the body is being cancelled; None: it is not."""
    deadline: float = math.inf
    """When its timeout ends, by ``anyio.current_time()``."""
    headers: Mapping[str, str] = {}


current: ContextVar[RunningJob] = ContextVar("flowq.current_job")


def current_job() -> RunningJob:
    """The job whose body is running here, in an async body, in tasks it has started, or in a sync body's thread.

    Raises:
        LookupError: this code does not run inside a job. For a direct call in a test: ``flowq.testing.as_job()``.
    """
    try:
        return current.get()
    except LookupError:
        raise LookupError("current_job(): this code does not run inside a job of flowq") from None


def cleanup(seconds: float) -> anyio.CancelScope:
    """``with flowq.cleanup(5): await connection.close()``: let a cancelled body finish its clean-up, for so many seconds.

    Without it every ``await`` of a cancelled body raises again, also in ``finally`` blocks, on asyncio too: anyio's cancellation
    is a state of the scope, not a single exception.

    Args:
        seconds: after this the clean-up itself is cancelled. Keep the sum below the worker's ``cancel_grace``.
    """
    return anyio.move_on_after(seconds, shield=True)
