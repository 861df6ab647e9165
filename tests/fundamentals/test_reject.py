"""``raise flowq.Reject(reason)``: this job can never succeed, so it is not tried again."""

from __future__ import annotations

import pytest

import flowq


async def test_reject(app: flowq.App[None]) -> None:
    """It ends at once, with retries left, and who waits for it learns the reason."""
    runs = 0

    @app.task(retries=5)
    async def thumbnail(image: str) -> None:
        nonlocal runs
        runs += 1
        raise flowq.Reject(f"{image} is no image")

    async with flowq.open_worker(app):
        job = await thumbnail.enqueue("notes.txt")
        with pytest.raises(flowq.JobFailed, match="is no image") as caught:
            await job.result(timeout=10)

    assert caught.value.kind == "rejected"
    assert runs == 1
