"""Waking those who wait, from whatever thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import attrs
from anyio.lowlevel import current_token

MAX_RINGS = 8
"""As many as the doorbell keeps when nobody listens; more say nothing new."""


def call_in_loop() -> Callable[[Callable[[], Any]], None]:
    """A function that runs another one in the loop that is running now: at once if called there, else soon."""
    native, thread = current_token().native_token, threading.get_ident()

    def call(function: Callable[[], Any]) -> None:
        if threading.get_ident() == thread:
            function()
        elif isinstance(native, asyncio.AbstractEventLoop):
            native.call_soon_threadsafe(function)
        else:
            import trio

            assert isinstance(native, trio.lowlevel.TrioToken)
            native.run_sync_soon(function)

    return call


@attrs.define(eq=False)
class Wake:
    """One waiting task. Make it in the loop that waits; ``set`` it from anywhere."""

    rung: bool = False
    _event: anyio.Event = attrs.Factory(anyio.Event)
    _call: Callable[[Callable[[], Any]], None] = attrs.Factory(call_in_loop)

    def set(self, *, rung: bool = False) -> None:
        self.rung = self.rung or rung
        self._call(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


@attrs.define(eq=False)
class Bell:
    """The doorbell of one pool: one ring wakes one listener, and a ring that nobody hears is kept."""

    rings: int = 0
    listeners: deque[Wake] = attrs.Factory(deque[Wake])

    def ring(self) -> None:
        if self.listeners:
            self.listeners.popleft().set(rung=True)
        else:
            self.rings = min(self.rings + 1, MAX_RINGS)

    def listen(self, wake: Wake) -> None:
        """Hear what was kept (all of it: the claim that follows rings for what it leaves), or wait in line."""
        if self.rings:
            self.rings = 0
            wake.set(rung=True)
        else:
            self.listeners.append(wake)

    def hang_up(self, wake: Wake) -> None:
        if wake in self.listeners:
            self.listeners.remove(wake)
