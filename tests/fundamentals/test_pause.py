"""``await app.pause(task)``: jobs are accepted and wait; nothing starts until ``resume``. The limit is not forgotten."""

from __future__ import annotations

import flowq


async def test_pause(app: flowq.App[None]) -> None:
    """The same as ``flowq pause`` and ``flowq resume``; it holds for every worker, and outlives them."""

    @app.task
    async def send(mail: str) -> str:
        return f"sent {mail}"

    @app.task
    async def other() -> str:
        return "not paused"

    async with flowq.open_worker(app):
        await app.pause(send)
        job = await send.enqueue("hello")

        assert await (await other.enqueue()).result(timeout=10) == "not paused"
        assert await job.status() == "ready"

        await app.resume(send)
        assert await job.result(timeout=10) == "sent hello"
