"""What a worker says of itself, as ``flowq status`` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from flowq._runtime import housekeeping
from flowq.backends.redis.admin import open_admin
from flowq.backends.redis.url import parse_url
from flowq.backends.redis.views import Snapshot
from tests.worker.conftest import Shop, Witness, until


@contextmanager
def looking(shop: Shop) -> Iterator[object]:
    with open_admin(parse_url(shop.url), shop.name) as admin:
        yield admin.snapshot


@pytest.mark.leaves_jobs("a job that fits nobody waits for a newer worker")
async def test_a_job_that_does_not_fit_is_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next look of its worker, among the figures of its task."""
    monkeypatch.setattr(housekeeping, "EVERY", 0.1)
    monkeypatch.setattr(housekeeping, "REST", 0.05)
    old, new = shop.app(), shop.app()

    @old.task(name="resize")
    async def resize(path: str) -> None: ...

    @new.task(name="resize")
    async def resize_by(path: str, width: int) -> None: ...

    await shop.start(old)
    async with new:
        await resize_by.enqueue("a.png", 3)
        with looking(shop) as look:

            def skewed() -> bool:
                snapshot: Snapshot = look()
                return any(t.recent.get("skewed") == 1 for t in snapshot.types)

            await until(skewed, "it is counted")


async def test_a_worker_that_drains_is_seen(shop: Shop) -> None:
    """While its bodies finish."""
    app, seen = shop.app(), Witness()

    @app.task
    async def long() -> None:
        await seen.body(1, 0.6)

    worker = await shop.start(app)
    async with app:
        job = await long.enqueue()
        await until(lambda: seen.running == 1, "it runs")
        with looking(shop) as look:
            assert [w.draining for w in look().workers] == [False]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker.drain)
                await until(lambda: [w.draining for w in look().workers] == [True], "it drains")
            assert look().workers == ()
        await job.result(timeout=5)
