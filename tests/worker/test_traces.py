"""What workers leave behind in Redis: nothing that is without an owner, however many have lived and however they ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import redis

import flowq
from flowq.backends.protocol import Backend, OpenBackend
from flowq.testing.faults import Faulty, Line
from tests.conftest import RedisServer
from tests.worker.conftest import TTL, Shop, until


class Mortal(flowq.App[Any]):
    """An app whose workers can be cut off from the server, as by a SIGKILL: ``lines`` has one for each client, in order."""

    lines: list[Line]

    def opener(self) -> OpenBackend:
        inner = super().opener()

        @asynccontextmanager
        async def opening() -> AsyncIterator[Backend]:
            async with inner() as backend:
                faulty = Faulty(backend)
                self.lines.append(faulty.line)
                yield faulty

        return opening


def with_tasks(shop: Shop) -> Mortal:
    app = Mortal(shop.name, shop.url, lease_ttl=TTL)
    app.lines = []

    @app.task(limit=5)
    async def few(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    @app.task
    async def many(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    @app.task
    async def other() -> None: ...

    return app


def members(client: Any, shop: Shop) -> list[str]:
    return [member for member in client.zrange(shop.key("members"), 0, -1) if member]


async def test_twenty_worker_lives(shop: Shop, redis_server: RedisServer) -> None:
    """20 lives with jobs in hand, in three pools, ended by a drain, a cancellation or a kill: afterwards each lane has at most one
    consumer more than live members, nothing of dead pools and members is left, and every job has run.
    """
    app = with_tasks(shop)
    pools: tuple[dict[str, Any], ...] = ({}, {"tasks": ["few", "many"]}, {"exclude": ["few"]})
    async with app:
        with redis_server.client() as client:
            last = await shop.start(app)
            jobs = [await app.enqueue(name, 0.3) for name in ("few", "many") * 5]
            for life in range(20):
                worker = await shop.start(app, **pools[life % 3], concurrency=4)
                jobs += [await app.enqueue(name, 0.15) for name in ("few", "many")]
                await anyio.sleep(0.03)
                match life % 4:
                    case 0:
                        await worker.drain(grace=0.05)
                    case 1 | 2:
                        shop.cancel(worker)
                    case _:
                        app.lines[-1].cut()
                        shop.cancel(worker)
            for job in jobs:
                await job.result(timeout=15)
            await until(lambda: members(client, shop) == [last.id], "the killed ones have expired", 3 * TTL)
            await until(lambda: not client.exists(shop.key("expired")), "nobody owes anything", 3 * TTL)
            consumers = {
                lane: [row["name"] for row in client.xinfo_consumers(shop.key(f"s:{lane}"), "flowq")]
                for lane in ("few", "many", "other")
            }
            pools_left = client.smembers(shop.key("pools"))
            families = {
                tail: left(client, shop, tail) for tail in ("member:*", "pm:*", "pool:*", "ready:*", "bell:*")
            }
            await last.drain()
    assert all(len(names) <= 2 for names in consumers.values()), consumers
    assert len(pools_left) == 1
    assert all(len(keys) <= 1 for keys in families.values()), families


def left(client: redis.Redis, shop: Shop, pattern: str) -> list[str]:
    return sorted(key for key in client.scan_iter(match=shop.key(pattern), count=1000))


async def test_the_last_worker_leaves_nothing_of_itself(shop: Shop, redis_server: RedisServer) -> None:
    """After a drain: no member, no pool, no hint, no bell, no consumer."""
    app = with_tasks(shop)
    async with app:
        worker = await shop.start(app)
        await (await app.enqueue("many", 0)).result(timeout=5)
        await worker.drain()
    with redis_server.client() as client:
        assert members(client, shop) == []
        for family in ("member:*", "pm:*", "pool:*", "ready:*", "bell:*", "hungry:*"):
            assert left(client, shop, family) == []
        assert client.xinfo_consumers(shop.key("s:many"), "flowq") == []
