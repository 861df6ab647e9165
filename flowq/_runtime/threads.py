"""Bodies of plain ``def`` tasks: in threads, each of which is waited for, whatever happens.

A thread cannot be cancelled. Left alone it would go on writing while its job runs elsewhere; so its job's token stays taken and
no outcome is written until it has returned, and a cancelled consumer waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from flowq._runtime.lanes import Body


def in_thread(function: Callable[..., Any], limiter: anyio.CapacityLimiter) -> Body:
    """An async body that runs ``function`` in a thread; ``limiter`` bounds this worker's threads. Context variables go along."""

    async def body(*args: Any, **kwargs: Any) -> Any:
        call = partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=False, limiter=limiter)

    return body


def inline(function: Callable[..., Any]) -> Body:
    """The same without a thread, for simulations: a virtual clock does not wait for threads."""

    async def body(*args: Any, **kwargs: Any) -> Any:
        await checkpoint()
        return function(*args, **kwargs)

    return body
