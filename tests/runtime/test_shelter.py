"""Children that a cancellation from outside does not reach, and how they may be cancelled all the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from flowq._runtime.nursery import Shelter, open_nursery


async def test_cancelled_in_the_step_that_opened_it_it_is_closed_again() -> None:
    """A start that is cancelled just as what it opens is open ends, and closes it; it does not wait for ever."""
    closed = False

    @asynccontextmanager
    async def opening() -> AsyncGenerator[str]:
        nonlocal closed
        outside.cancel()
        try:
            yield "open"
        finally:
            closed = True

    with anyio.CancelScope() as outside:
        async with open_nursery() as tasks:
            shelter = Shelter(tasks)
            try:
                await shelter.open(opening, name="held")
            finally:
                shelter.close()
    assert outside.cancelled_caught
    assert closed


async def test_open_it_outlives_a_cancellation_until_closed() -> None:
    """Once it is open, a cancellation from outside leaves it alone; ``close`` ends it."""
    closed = anyio.Event()

    @asynccontextmanager
    async def opening() -> AsyncGenerator[str]:
        try:
            yield "open"
        finally:
            closed.set()

    with anyio.CancelScope() as outside:
        async with open_nursery() as tasks:
            shelter = Shelter(tasks)
            assert await shelter.open(opening, name="held") == "open"
            outside.cancel()
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(0.05):
                    await closed.wait()
                assert not closed.is_set()
                shelter.close()
                with anyio.fail_after(5):
                    await closed.wait()
