"""``maxmemory`` reached: producers are refused, workers drain. And what a worker says of a server that is set up to lose jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import flowq
from tests.backends.redis.conftest import Server
from tests.conftest import leaks
from tests.worker.conftest import Shop, Witness, open_shop, until


def with_tasks(shop: Shop, seen: Witness) -> tuple[flowq.App[Any], Any, Any, Any]:
    app = shop.app()

    @app.task(limit=2, retries=0)
    async def work(number: int, seconds: float = 0.02) -> str:
        await seen.body(number, seconds)
        return "x" * 1000

    @app.task(retries=1, backoff=flowq.Backoff(base=0.05))
    async def flaky() -> int:
        attempt = flowq.current_job().attempt
        if attempt == 1:
            raise OSError("not yet")
        return attempt

    @app.task
    async def doomed() -> None:
        raise flowq.Reject("never")

    return app, work, flaky, doomed


async def test_a_full_memory_refuses_producers_and_lets_workers_drain(
    anyio_backend: object, new_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    """``maxmemory 1`` with noeviction. A submit raises ServerFull and stores nothing. A worker that starts then joins, claims,
    settles with results, retries, delays, dead letters and cancellations until nothing is outstanding. With memory free again
    producers work.
    """
    server = new_server("--maxmemory-policy", "noeviction")
    seen = Witness()
    async with open_shop(server, "full", caplog) as shop:
        app, work, flaky, doomed = with_tasks(shop, seen)
        with server.client() as client:
            async with app:
                jobs = [await work.enqueue(n) for n in range(20)]
                retried, dead = await flaky.enqueue(), await doomed.enqueue()
                waiting, running = await work.options(delay=60).enqueue(100), await work.enqueue(101, 30)
                client.config_set("maxmemory", 1)
                keys = sorted(client.keys("*"))
                with pytest.raises(
                    flowq.ServerFull, match="reached maxmemory: nothing was stored; let workers drain"
                ):
                    await work.enqueue(21)
                with app.sync() as producer, pytest.raises(flowq.ServerFull, match="nothing was stored"):
                    await anyio.to_thread.run_sync(producer.enqueue, work.bind(22))
                assert sorted(client.keys("*")) == keys
                assert client.xlen(shop.key("s:work")) == 21

                worker = await shop.start(app)
                shop.end_quarantine()
                assert {await job.result(timeout=15) for job in jobs} == {"x" * 1000}
                assert await retried.result(timeout=5) == 2
                with pytest.raises(flowq.JobFailed, match="never"):
                    await dead.result(timeout=5)
                assert await waiting.cancel() is flowq.CancelAnswer.REMOVED
                await until(lambda: seen.running == 1, "the last one runs")
                assert await running.cancel(wait=True) is flowq.CancelAnswer.REQUESTED
                assert await running.status() is flowq.JobStatus.CANCELLED
                await app.set_limit(work, 1)
                assert client.xlen(shop.key("dead")) == 1
                with pytest.raises(flowq.ServerFull):
                    await work.enqueue(23)
                assert worker.stats().leases_lost == 0
                told = [record for record in shop.said("redis.full") if record.name == "flowq.redis"]
                assert [record.levelname for record in told] == [
                    "ERROR",
                    "ERROR",
                ]  # the app's and the thread's own client

                client.config_set("maxmemory", 0)
                again = await work.enqueue(24)
                assert await again.result(timeout=5) == "x" * 1000
            assert seen.peak <= 2
            await worker.drain()
            assert leaks(client, "full") == []


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_lose_jobs_is_named_at_the_start(
    anyio_backend: object, new_server: Callable[..., Server], caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """An eviction policy other than noeviction, and no append-only file: a warning each, with the way out, when a worker starts. It
    serves all the same.
    """
    aof = policy == "noeviction"
    server = new_server("--maxmemory-policy", policy, "--appendonly", "yes" if aof else "no")
    async with open_shop(server, "unfit", caplog) as shop:
        app = shop.app()

        @app.task
        async def work() -> int:
            return 1

        async with app:
            worker = await shop.start(app)
            assert await (await work.enqueue()).result(timeout=5) == 1
            said = [(record.levelno, record.getMessage()) for record in shop.said("server.unfit")]
            await worker.drain()
    if aof:
        assert said == []
    else:
        assert said == [
            (
                logging.WARNING,
                f"maxmemory-policy is {policy}: under memory pressure Redis will delete jobs; set noeviction",
            ),
            (
                logging.WARNING,
                "no append-only file (persistence: none): a crash of Redis loses jobs; set appendonly yes",
            ),
        ]
