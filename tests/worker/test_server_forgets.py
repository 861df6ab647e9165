"""The server loses what flowq had in it, under a running worker: each time it says so, mends it, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
import redis

import flowq
from tests.conftest import RedisServer
from tests.worker.conftest import TTL, Shop, Witness, left_behind, until


@pytest.fixture
def seen() -> Witness:
    return Witness()


def with_tasks(shop: Shop, seen: Witness, limit: int = 3) -> tuple[flowq.App[Any], Any, Any]:
    """An app with a limited and an unlimited task that tell the witness."""
    app = shop.app()

    @app.task(limit=limit, retries=0)
    async def few(number: int, seconds: float = 0.02) -> int:
        return int(await seen.body(number, seconds))

    @app.task(retries=0)
    async def many(number: int, seconds: float = 0.02) -> int:
        return int(await seen.body(number, seconds))

    return app, few, many


async def test_flushall(own_shop: Shop, own_server: RedisServer, client: redis.Redis, seen: Witness) -> None:
    """Everything is gone. The worker says that it lost its lease and that limited tasks wait, joins again, makes its groups anew,
    and runs what is submitted from then on; bodies whose jobs are gone are cancelled as ``lease_lost``.
    """
    app, few, many = with_tasks(own_shop, seen)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    async with app:
        await few.enqueue(1, 0)
        await until(lambda: seen.done() == [1], "the quarantine of a fresh server is over")
        await few.enqueue(2, 30)
        await many.enqueue(3, 30)
        await until(lambda: seen.running == 2, "both run")
        before = worker.id
        client.flushall()
        await until(lambda: worker.id != before and worker.stats().is_member, "joined again", 5)
        jobs = [await few.enqueue(4), await many.enqueue(5)]
        assert [await job.result(timeout=10) for job in jobs] == [4, 5]
        await until(lambda: seen.running == 0, "no body goes on without its job")
    assert [run.reason for run in seen.runs if not run.ended] == ["lease_lost"] * 2
    assert own_shop.said("lease.lost")
    assert own_shop.said("lease.rejoined")
    assert len(own_shop.said("quarantine.start")) == 2
    await worker.drain()
    assert left_behind(own_server, "own") == []


@pytest.mark.parametrize("what", ["group", "clock", "members"])
async def test_a_key_is_lost(
    own_shop: Shop, own_server: RedisServer, client: redis.Redis, seen: Witness, what: str
) -> None:
    """XGROUP DESTROY of a lane, DEL of ``clock``, DEL of ``members``: nothing that was submitted is lost, the limit holds over
    the loss, and the log says that the server forgot.
    """
    app, few, many = with_tasks(own_shop, seen)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    async with app:
        jobs = [await few.enqueue(n, 0.1) for n in range(12)]
        jobs += [await many.enqueue(n, 0.1) for n in range(100, 104)]
        await until(lambda: len(seen.done()) >= 6, "work began")
        match what:
            case "group":
                client.xgroup_destroy(own_shop.key("s:few"), "flowq")
            case lost:
                client.delete(own_shop.key(lost))
        for job in jobs:
            with anyio.fail_after(15):
                assert await job.result() in {*range(12), *range(100, 104)}
        later = await few.enqueue(200)
        assert await later.result(timeout=10) == 200
    few_runs = [run for run in seen.runs if run.what < 100]
    assert peak(few_runs) <= 3
    assert own_shop.said("server.forgot") or own_shop.said("lease.lost")
    await worker.drain()
    assert left_behind(own_server, "own") == []


def peak(runs: list[Any]) -> int:
    edges = sorted([(run.start, 1) for run in runs] + [(run.end, -1) for run in runs])
    running = highest = 0
    for _, step in edges:
        running += step
        highest = max(highest, running)
    return highest


async def test_a_lost_group_of_a_quiet_lane_is_noticed(
    own_shop: Shop, own_server: RedisServer, client: redis.Redis, seen: Witness
) -> None:
    """XGROUP DESTROY while all jobs of the lane are in hand: their outcomes find no entry, so they run again; none is stuck."""
    app, _, many = with_tasks(own_shop, seen)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    async with app:
        jobs = [await many.enqueue(n, 0.3) for n in range(6)]
        await until(lambda: seen.running == 6, "all run")
        client.xgroup_destroy(own_shop.key("s:many"), "flowq")
        for job in jobs:
            assert await job.result(timeout=10) in range(6)
    await worker.drain()
    assert left_behind(own_server, "own") == []


async def test_the_script_cache_is_flushed_all_the_time(
    own_shop: Shop, own_server: RedisServer, client: redis.Redis, seen: Witness
) -> None:
    """SCRIPT FLUSH every 50 ms for 2 s under load: nothing is lost, nothing runs twice, the limit holds."""
    app, few, many = with_tasks(own_shop, seen)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    async with app:
        await under_load(few, many, 2.0, 0.05, client.script_flush)
    ran_once(seen)
    await worker.drain()
    assert left_behind(own_server, "own") == []


async def test_a_storm_of_client_kill(
    own_shop: Shop, own_server: RedisServer, client: redis.Redis, seen: Witness
) -> None:
    """CLIENT KILL of every connection 20 times a second for 2 s under load: nothing is lost, at most 3 at once."""
    app, few, many = with_tasks(own_shop, seen)
    workers = [await own_shop.start(app) for _ in range(2)]
    own_shop.end_quarantine()

    def kill() -> None:
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)

    async with app:
        await under_load(few, many, 2.0, 0.05, kill)
    assert {run.what for run in seen.runs if run.ended} >= set(range(60))
    assert peak([run for run in seen.runs if run.what < 1000]) <= 3
    for worker in workers:
        await worker.drain()
    assert left_behind(own_server, "own") == []


async def under_load(few: Any, many: Any, seconds: float, every: float, hurt: Callable[[], object]) -> None:
    """60 limited and 200 unlimited jobs, while the server is hurt again and again; wait for all of them."""
    await (await few.enqueue(0, 0.001)).result(timeout=10 * TTL)
    jobs: list[Any] = []

    async def submit(task: Any, number: int) -> None:
        try:
            jobs.append(await task.enqueue(number, 0.02))
        except flowq.SubmitUnknown as error:
            with anyio.fail_after(20):
                jobs.append(await resend(error))

    async with anyio.create_task_group() as tasks:
        end = anyio.current_time() + seconds
        numbers = iter([*((few, n) for n in range(1, 60)), *((many, n) for n in range(1000, 1200))])
        while anyio.current_time() < end:
            for task, number in [
                next(numbers, None) or (None, 0) for _ in range(int(260 * every / seconds) + 1)
            ]:
                if task is not None:
                    tasks.start_soon(submit, task, number)
            hurt()
            await anyio.sleep(every)
        for task, number in numbers:
            tasks.start_soon(submit, task, number)
    assert len(jobs) == 259
    results = [await job.result(timeout=20) for job in jobs]
    assert sorted(results) == [*range(1, 60), *range(1000, 1200)]


async def resend(error: flowq.SubmitUnknown) -> Any:
    while True:
        try:
            return await error.resend()
        except flowq.SubmitUnknown as again:
            error = again


def ran_once(seen: Witness) -> None:
    assert sorted(run.what for run in seen.runs) == [*range(60), *range(1000, 1200)]
    assert peak([run for run in seen.runs if run.what < 1000]) <= 3
