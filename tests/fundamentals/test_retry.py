"""A body that raises is run again, later, as often as the task says. A body may also ask for it."""

from __future__ import annotations

import flowq

SOON = flowq.Backoff(base=0.01)


async def test_retry(app: flowq.App[None]) -> None:
    """``retries=5`` are further attempts, so up to 6 runs; ``current_job().attempt`` tells which one this is."""

    @app.task(retries=5, backoff=SOON)
    async def fetch() -> int:
        attempt = flowq.current_job().attempt
        if attempt < 3:
            raise ConnectionError("try again")
        return attempt

    async with flowq.open_worker(app):
        job = await fetch.enqueue()

        assert await job.result(timeout=10) == 3


async def test_the_body_says_when(app: flowq.App[None]) -> None:
    """``raise flowq.Retry(after=…)``: the other side said how long to wait. It counts as an attempt."""

    @app.task
    async def poll() -> str:
        if flowq.current_job().attempt == 1:
            raise flowq.Retry(after=0.05, reason="429 Too Many Requests")
        return "done"

    async with flowq.open_worker(app):
        job = await poll.enqueue()

        assert await job.result(timeout=10) == "done"
