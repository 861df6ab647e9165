"""Waking one sleeping task: an event that can be set again, and set from a callback outside of every task."""

from __future__ import annotations

import math

import anyio


class Nudge:
    """One task waits, others set. A set while nobody waits is kept, and makes the next wait return at once."""

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self._event: anyio.Event | None = None
        self.is_set = False

    def set(self) -> None:
        if not self.is_set:
            self.is_set = True
            if self._event is not None:
                self._event.set()

    def clear(self) -> None:
        self.is_set = False

    async def wait(self, seconds: float = math.inf) -> bool:
        """Wait until it is set, at most so many seconds, and clear it. Returns whether it was set.

        Returns at once, without a checkpoint, if it is set already.
        """
        if not self.is_set and seconds > 0:
            self._event = anyio.Event()
            try:
                if seconds == math.inf:
                    await self._event.wait()
                else:
                    with anyio.move_on_after(seconds):
                        await self._event.wait()
            finally:
                self._event = None
        was_set = self.is_set
        self.is_set = False
        return was_set
