"""The one place where the runtime meets a clock, a thread-safe way into the loop, and the loop's own idea of a task's scope.

Deadlines, slices and leases all read ``Loop.now``: CLOCK_BOOTTIME, which runs on while the machine sleeps (a lease does not wait
for a laptop to be opened again). macOS has that behaviour in CLOCK_MONOTONIC; where neither is known, ``time.monotonic``. Under
a virtual clock (trio's MockClock) everything follows that one: then no thread of ours may run, and the keeper is a task.
"""

from __future__ import annotations

import asyncio
import math
import operator
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeVarTuple

import anyio
import attrs
from anyio.lowlevel import current_token

from flowq._clock import Now, is_mock, monotonic_clock, virtual_wall

Args = TypeVarTuple("Args")


@attrs.frozen(eq=False)
class Loop:
    """The event loop that a worker runs in."""

    kind: Literal["trio", "asyncio"]
    now: Now
    """Monotonic seconds; see the module."""
    wall: Now
    """Unix seconds, for what users said in calendar time; nothing of the lease looks at it."""
    offset: float
    """``anyio.current_time()`` minus ``now()``."""
    is_virtual: bool
    native: Any

    @classmethod
    def current(cls, *, virtual: bool = False) -> Loop:
        """The running one. ``virtual``: its clock is not the machine's; trio's MockClock is recognised without being told."""
        native = current_token().native_token
        if isinstance(native, asyncio.AbstractEventLoop):
            return cls._following("asyncio", native.time, native, virtual)
        import trio  # only here: asyncio's users need not load it

        clock = trio.lowlevel.current_clock()
        return cls._following("trio", clock.current_time, native, virtual or is_mock(clock))

    @classmethod
    def _following(cls, kind: Literal["trio", "asyncio"], loop_time: Now, native: Any, virtual: bool) -> Loop:
        if virtual:
            return cls(kind, loop_time, virtual_wall(native, loop_time), 0.0, True, native)
        now = monotonic_clock()
        return cls(kind, now, time.time, loop_time() - now(), False, native)

    def post(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """Have ``function`` called in the loop soon, from whatever thread; nothing happens if the loop has ended.

        It must only set events and cancel scopes: on asyncio it runs outside of every task.
        """
        if self.kind == "asyncio":
            with suppress(RuntimeError):  # the loop is closed
                self.native.call_soon_threadsafe(function, *args)
            return
        import trio

        with suppress(trio.RunFinishedError):
            self.native.run_sync_soon(function, *args)


@attrs.frozen(eq=False)
class ScopeMark:
    """Tells whether this task stands in the cancel scope where it should stand.

    A body that leaves a scope entered (an async generator that nobody closed) would have that scope's deadline strike the next
    job of its consumer. Neither trio nor anyio tells the innermost scope publicly, so this looks at their own records; should a
    future version keep them elsewhere, ``read`` sees no difference, and the damage shows only when the scope is left.
    """

    read: Callable[[Any], Any]
    holder: Any

    @classmethod
    def current(cls, loop: Loop) -> ScopeMark:
        """For the calling task."""
        if loop.kind == "trio":
            import trio

            task = trio.lowlevel.current_task()
            if hasattr(task, "_cancel_status"):
                return cls(operator.attrgetter("_cancel_status"), task)
        else:
            with suppress(ImportError, AttributeError, KeyError, TypeError):
                from anyio._backends import _asyncio as anyio_asyncio

                states: Any = anyio_asyncio._task_states  # pyright: ignore[reportPrivateUsage] - see above
                state = states[asyncio.current_task()]
                if hasattr(state, "cancel_scope"):
                    return cls(operator.attrgetter("cancel_scope"), state)
        return cls(_no_difference, None)

    def repair(self, stand: object) -> None:
        """Leave what was left entered, as far as the task's own scope can be reached by that.

        trio repairs scopes by itself when one further out is left, and raises; but a task that ends with a nursery entered takes the
        nursery around it down. anyio on asyncio takes it down for a scope, too.
        """
        nurseries = getattr(self.holder, "_child_nurseries", [])
        for nursery in nurseries:
            nursery.cancel_scope.cancel()
        nurseries.clear()
        while isinstance(scope := self.read(self.holder), anyio.CancelScope) and scope is not stand:
            scope.cancel()  # its own children, if it is a nursery's
            scope.__exit__(None, None, None)


def _no_difference(_holder: object) -> object:
    return None


def is_cancelled_here() -> bool:
    """Is the calling task inside a cancelled scope, so that its next checkpoint raises?"""
    return anyio.current_effective_deadline() == -math.inf
