"""The first join: how long a worker waits for its server, and for a fleet that is changing to its lease TTL."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from flowq._errors import ServerError, Unavailable
from flowq._runtime.assembly import Crew
from flowq._runtime.reconcile import is_passing
from flowq.backends.protocol import TtlNotYet

START_PAUSE = 0.1
"""Seconds between attempts to join while the server is not there yet."""


class Patience:
    """How long a start may take, and what kept it so far. Longer than that is a server that is not there."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = anyio.current_time() + seconds
        self.trouble: ServerError | None = None
        self.refusal: TtlNotYet | None = None

    @contextmanager
    def bounded(self) -> Generator[None]:
        try:
            with anyio.fail_after(max(0.0, self._end - anyio.current_time())):
                yield
        except TimeoutError as exc:
            if self.refusal is not None:
                raise self.refusal from exc
            raise Unavailable(
                f"no server answered within start_timeout={self._seconds:g} s: is it running, and does FLOWQ_URL (or App(url=…)) "
                f"name it?{f' (last: {self.trouble})' if self.trouble else ''}"
            ) from exc


async def first_join(crew: Crew, patience: Patience) -> float:
    """Become a member; while the server is merely not there yet, or the fleet is changing to our lease TTL, try again."""
    while True:
        try:
            return await crew.member.join()
        except TtlNotYet as exc:
            patience.refusal = exc
        except ServerError as exc:
            if not is_passing(exc):
                raise
            patience.trouble, patience.refusal = exc, None
            crew.floor.events.say(logging.WARNING, "redis.lost", "the server does not answer yet: %s", exc)
        await anyio.sleep(START_PAUSE)
        await crew.backend.wait_up()
