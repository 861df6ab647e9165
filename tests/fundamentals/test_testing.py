"""Your own tests need no server: ``flowq.testing.worker`` runs the app in memory, with a real worker."""

from __future__ import annotations

import flowq


async def test_testing(app: flowq.App[None]) -> None:
    """Enqueue, run until idle, look. ``as_job`` lets a body be called directly."""

    @app.task
    async def welcome(user: str) -> str:
        await remind.options(delay=86400).enqueue(user)
        return f"welcome, {user}, attempt {flowq.current_job().attempt}"

    @app.task
    async def remind(user: str) -> None: ...

    async with flowq.testing.worker(app) as w:
        job = await welcome.enqueue("ada")
        await w.run_until_idle()

        assert await job.result() == "welcome, ada, attempt 1"
        assert w.assert_enqueued(remind, "ada").delay == 86400
        assert w.dead_letters == []

        with flowq.testing.as_job(attempt=2):
            assert await welcome("bob") == "welcome, bob, attempt 2"
