"""A plain ``def`` is a task too: it runs in a thread, so it may block."""

from __future__ import annotations

import hashlib
import threading

import flowq


async def test_sync_task(app: flowq.App[None]) -> None:
    """The event loop goes on meanwhile, and ``current_job()`` works in the thread."""

    @app.task
    def digest(data: bytes) -> tuple[str, bool, int]:
        in_a_thread = threading.current_thread() is not threading.main_thread()
        return hashlib.sha256(data).hexdigest(), in_a_thread, flowq.current_job().attempt

    async with flowq.open_worker(app):
        job = await digest.enqueue(b"abc")

        assert await job.result(timeout=10) == (hashlib.sha256(b"abc").hexdigest(), True, 1)
