"""``options(delay=…)`` or ``options(at=…)``: the job starts no sooner than that."""

from __future__ import annotations

import datetime

import flowq


async def test_delay(app: flowq.App[None]) -> None:
    """A delayed job is stored at once, and waits in Redis, not in this process."""

    @app.task
    async def remind(whom: str) -> str:
        return f"reminded {whom}"

    async with flowq.open_worker(app):
        job = await remind.options(delay=0.2).enqueue("you")

        assert await job.status() == "delayed"
        assert await job.result(timeout=10) == "reminded you"


async def test_at(app: flowq.App[None]) -> None:
    """A moment is an aware ``datetime``; one that has passed means now."""

    @app.task
    async def remind(whom: str) -> str:
        return f"reminded {whom}"

    async with flowq.open_worker(app):
        a_minute_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
        job = await remind.options(at=a_minute_ago).enqueue("you")

        assert await job.result(timeout=10) == "reminded you"
