"""The clocks of producers and workers: one that nobody sets, and one for what users say in calendar time.

What this room does: say what to read. What it will not do: the lease's times (those are the server's, and the worker's own
deadlines: see ``_runtime.clock``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from anyio.lowlevel import current_token

Now = Callable[[], float]

_begun: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
"""Event loop with a virtual clock → unix seconds at its second 0."""


def monotonic_clock() -> Now:
    """Seconds of a clock that nobody sets and that runs through a suspend, readable from every thread."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


def is_mock(trio_clock: object) -> bool:
    """Is it trio's MockClock?"""
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(trio_clock, testing.MockClock)


def virtual_wall(native: Any, loop_time: Now) -> Now:
    """Unix seconds that follow a virtual clock: the time of day when somebody in this loop first asked, and on from there.

    Args:
        native: the event loop: whoever asks in it gets the same clock, producer and worker.
        loop_time: its clock.
    """
    start = _begun.setdefault(native, time.time() - loop_time())
    return lambda: start + loop_time()


def wall_clock() -> Now:
    """Unix seconds, as the running event loop sees them: by trio's MockClock if that is its clock."""
    native = current_token().native_token
    if not isinstance(native, asyncio.AbstractEventLoop):
        import trio  # only here: asyncio's users need not load it

        clock = trio.lowlevel.current_clock()
        if is_mock(clock):
            return virtual_wall(native, clock.current_time)
    return time.time
