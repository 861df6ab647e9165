"""``limit=3``: never more than three of these jobs run at once, however many workers there are."""

from __future__ import annotations

import anyio

import flowq


async def test_limit(app: flowq.App[None]) -> None:
    """Two workers with 20 consumers each, and still at most 3 bodies at a time."""
    running = peak = 0

    @app.task(limit=3)
    async def ask_the_bank(account: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(0.02)
        running -= 1

    async with flowq.open_worker(app, concurrency=20), flowq.open_worker(app, concurrency=20):
        jobs = await app.enqueue_many(ask_the_bank.bind(n) for n in range(12))
        for job in jobs:
            await job.result(timeout=10)

    assert peak == 3
