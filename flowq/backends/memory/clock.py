"""What time it is, three ways, and where it comes from.

A server of jobs meets clocks that step. So nothing but ids and ``at`` reads the server's own time; a lease runs on the logical
clock, which a forward step moves by one step at most, and a delay on the waiting clock, which never goes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import attrs
from anyio.lowlevel import current_token


@attrs.define
class Clock:
    """The clocks of one server, in milliseconds; moved by ``tick`` alone."""

    now: int = 0
    """The server's own time at the last call (unix)."""
    lease: int = 0
    """Logical: advances by at most one step a call, never back. Leases, hunger and quarantine run on it."""
    waiting: int = 0
    """Advances by every forward step, never back. Delays, retries and records run on it."""
    started: bool = False

    def tick(self, now: int, step: int) -> None:
        """Learn the server's time.

        Args:
            now: the server's time, unix milliseconds; may be less than the last one.
            step: the most that the logical clock may move, milliseconds.
        """
        if not self.started:
            self.now = self.lease = self.waiting = now
            self.started = True
            return
        forward = max(0, now - self.now)
        self.lease += min(forward, step)
        self.waiting += forward
        self.now = now


def loop_clock() -> Callable[[], float]:
    """The running event loop's own clock in seconds, as a function that any thread may call."""
    native = current_token().native_token
    if isinstance(native, asyncio.AbstractEventLoop):
        return native.time
    import trio  # only here: asyncio's users need not have it

    return trio.lowlevel.current_clock().current_time


def unix_clock() -> Callable[[], int]:
    """The running loop's clock, set to the time of day once: unix milliseconds that follow a virtual clock too."""
    seconds = loop_clock()
    # The time of day is read this once: ``at`` is given in it, and everything after follows the loop.
    offset = time.time() - seconds()
    return lambda: int((seconds() + offset) * 1000)
