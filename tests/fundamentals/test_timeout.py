"""``timeout=30``: each attempt gets so many seconds, waiting time not counted. Then the body is cancelled."""

from __future__ import annotations

import anyio
import pytest

import flowq


async def test_timeout(app: flowq.App[None]) -> None:
    """The body sees a cancellation and can clean up; the attempt counts as failed."""
    cleaned_up = []

    @app.task(timeout=0.05, retries=0)
    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with flowq.cleanup(5):  # without this, the next await would raise at once
                await anyio.sleep(0.001)
                cleaned_up.append(flowq.current_job().cancel_reason)

    async with flowq.open_worker(app):
        job = await hangs.enqueue()
        with pytest.raises(
            flowq.JobTimedOut, match=r"TimeoutError: the attempt ran out of time \(timeout 0.05 s\)"
        ):
            await job.result(timeout=10)

    assert cleaned_up == ["timeout"]
