"""Who runs what: no worker hoards jobs behind its busy consumers while another one is idle."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio

import flowq
from tests.worker.conftest import Shop


async def test_two_workers_share_long_jobs(shop: Shop) -> None:
    """2 workers with 10 consumers each, 40 jobs of 0.3 s: each runs 20, give or take 2, in two rounds."""
    counts: Counter[str] = Counter()
    apps = [named(shop, counts, name) for name in ("first", "second")]
    for app in apps:
        await shop.start(app, concurrency=10)
    async with apps[0]:
        began = anyio.current_time()
        jobs = await apps[0].enqueue_many(apps[0].ref("work").bind(n, 0.3) for n in range(40))
        for job in jobs:
            await job.result(timeout=10)
        took = anyio.current_time() - began
    assert counts["first"] + counts["second"] == 40
    assert 18 <= counts["first"] <= 22, counts
    assert took < 3 * 0.3, took


async def test_long_jobs_behind_short_ones_are_shared(shop: Shop) -> None:
    """What was taken ahead while bodies were short goes back when a long one comes first: the idle worker gets its part."""
    counts: Counter[str] = Counter()
    apps = [named(shop, counts, name) for name in ("first", "second")]
    async with apps[0]:
        await shop.start(apps[0], concurrency=4)
        short = await apps[0].enqueue_many(apps[0].ref("work").bind(n, 0.0) for n in range(400))
        long = await apps[0].enqueue_many(apps[0].ref("work").bind(n, 0.4) for n in range(8))
        await shop.start(apps[1], concurrency=4)
        began = anyio.current_time()
        for job in (*short, *long):
            await job.result(timeout=10)
        assert anyio.current_time() - began < 3 * 0.4
    assert counts["second"] >= 3, counts


def named(shop: Shop, counts: Counter[str], name: str) -> flowq.App[Any]:
    app = shop.app()

    @app.task(retries=0)
    async def work(number: int, seconds: float) -> int:
        counts[name] += 1
        await anyio.sleep(seconds)
        return number

    return app
