"""Limits that change under load: never above the largest that has been in force since a body was admitted, and at once where that
is possible. Judged from the bodies' own intervals.
"""

from __future__ import annotations

import math
from typing import Any

import anyio

import flowq
from tests.conftest import RedisServer
from tests.worker.conftest import Run, Shop, Witness, until

BODY = 0.04


class Limits:
    """What was in force, and since when, by the operator's own clock."""

    def __init__(self, first: float) -> None:
        self._steps: list[tuple[float, float]] = [(-math.inf, first)]
        self._asked: list[tuple[float, float]] = []

    async def change(self, app: flowq.App[Any], task: Any, limit: int | None, *, force: float) -> None:
        """Set a limit; from the call's return on it is in force, while it runs either may be."""
        asked = anyio.current_time()
        await app.set_limit(task, limit)
        self.note(asked, force)

    def note(self, asked: float, force: float) -> None:
        """A change that was asked for then has been answered now."""
        before = self._steps[-1][1]
        self._steps += [(asked, max(before, force)), (anyio.current_time(), force)]

    def most(self, start: float, end: float) -> float:
        """The largest limit in force at some moment between."""
        ends = [*(at for at, _ in self._steps[1:]), math.inf]
        return max(
            limit
            for (at, limit), until_ in zip(self._steps, ends, strict=True)
            if at <= end and until_ >= start
        )


def excess(runs: list[Run], limits: Limits) -> list[tuple[float, int]]:
    """Moments at which more ran than the largest limit since the oldest of them was admitted allows."""
    found = []
    for run in runs:
        beside = [other for other in runs if other.start <= run.start < (other.end or math.inf)]
        oldest = min(other.start for other in beside)
        if len(beside) > limits.most(oldest - 0.05, run.start):
            found.append((run.start, len(beside)))
    return found


def with_work(shop: Shop, seen: Witness, limit: int | None) -> tuple[flowq.App[Any], Any]:
    app = shop.app()

    @app.task(limit=limit, retries=0)
    async def work(number: int) -> int:
        return int(await seen.body(number, BODY))

    return app, work


async def test_limits_change_under_load(shop: Shop) -> None:
    """2, 6, 1, reset, pause, resume, none, 3 over two workers: no moment is above what may be, and all jobs run."""
    seen = Witness()
    app, work = with_work(shop, seen, 4)
    workers = [await shop.start(app, concurrency=8) for _ in range(2)]
    shop.end_quarantine()
    limits = Limits(4)
    async with app:
        jobs = await app.enqueue_many(work.bind(n) for n in range(160))
        await anyio.sleep(4 * BODY)
        for limit, force in ((2, 2), (6, 6), (1, 1), (None, 4)):
            await limits.change(app, work, limit, force=force)
            await anyio.sleep(4 * BODY)
        asked = anyio.current_time()
        await app.pause(work)
        limits.note(asked, 0)
        paused = anyio.current_time()
        await anyio.sleep(4 * BODY)
        assert seen.running == 0
        asked = anyio.current_time()
        await app.resume(work)
        limits.note(asked, 4)
        await anyio.sleep(4 * BODY)
        await limits.change(app, work, 3, force=3)
        assert sorted([await job.result(timeout=20) for job in jobs]) == list(range(160))
        for worker in workers:
            await worker.drain()
    assert excess(seen.runs, limits) == []
    assert not [run for run in seen.runs if paused + 0.01 < run.start < asked]
    assert len(seen.runs) == 160
    peaks = {force: peak_between(seen.runs, limits, force) for force in (6, 4, 3)}
    assert peaks[6] > 4, peaks
    assert peaks[4] > 3, peaks
    assert peaks[3] == 3, peaks
    assert not shop.said("limit.exceeded")


def peak_between(runs: list[Run], limits: Limits, force: float) -> int:
    """The most that ran at once while exactly that limit was in force, bodies of before left out."""
    best = 0
    for run in runs:
        beside = [other for other in runs if other.start <= run.start < other.end]
        oldest = min(other.start for other in beside)
        if limits.most(oldest, run.start) == force:
            best = max(best, len(beside))
    return best


async def test_an_unlimited_task_is_limited_at_once(shop: Shop) -> None:
    """From the answer of ``set_limit`` on nothing starts above the limit, though workers have taken unlimited jobs before."""
    seen = Witness()
    app, work = with_work(shop, seen, None)
    workers = [await shop.start(app, concurrency=10) for _ in range(2)]
    async with app:
        jobs = await app.enqueue_many(work.bind(n) for n in range(120))
        await until(lambda: seen.running == 20, "all consumers are busy")
        await app.set_limit(work, 2)
        limited = anyio.current_time()
        # what was granted before the change and had not started yet may still start
        await anyio.sleep(2 * BODY)
        settled = anyio.current_time()
        await until(lambda: len(seen.runs) >= 60, "it goes on")
        started = [run for run in seen.runs if run.start > settled]
        assert max(sum(o.start <= run.start < (o.end or math.inf) for o in seen.runs) for run in started) == 2
        await app.set_limit(work, None)
        assert sorted([await job.result(timeout=20) for job in jobs]) == list(range(120))
        for worker in workers:
            await worker.drain()
    late = [run for run in seen.runs if limited < run.start < settled]
    assert len(late) <= 20 + 2 * 2
    assert len(seen.runs) == 120


async def test_two_versions_declare_different_limits(shop: Shop, redis_server: RedisServer) -> None:
    """3 and 5 in one fleet: the smaller one is in force, for both; when its worker has left, the other's."""
    seen = Witness()
    old, work = with_work(shop, seen, 3)
    new, _ = with_work(shop, seen, 5)
    async with old:
        first, second = await shop.start(old), await shop.start(new)
        shop.end_quarantine()
        jobs = await old.enqueue_many(work.bind(n) for n in range(30))
        for job in jobs:
            await job.result(timeout=10)
        assert seen.peak == 3
        with redis_server.client() as client:
            assert client.hget(shop.key("limits"), "work") == "3"
            await first.drain()
            assert client.hget(shop.key("limits"), "work") == "5"
        jobs = await old.enqueue_many(work.bind(n) for n in range(30, 60))
        for job in jobs:
            await job.result(timeout=10)
        assert seen.peak == 5
        await second.drain()
