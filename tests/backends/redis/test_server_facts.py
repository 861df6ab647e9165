"""Has the server forgotten? What counts as another server, and what does not, under a running worker (CORRECTIONS 1.5)."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

import flowq
from tests.backends.redis.conftest import Server, binary_of, running
from tests.conftest import leaks
from tests.worker.conftest import TTL, Shop, Witness, open_shop, until

QUICK_SYNC = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5")


@pytest.fixture
def primary(new_server: Callable[..., Server]) -> Server:
    return new_server(*QUICK_SYNC)


@pytest.fixture
async def shop(
    anyio_backend: object, primary: Server, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Shop]:
    async with open_shop(primary, "facts", caplog) as opened:
        yield opened


def with_task(shop: Shop, seen: Witness, ttl: float = TTL) -> tuple[flowq.App[Any], Any]:
    app = shop.app(lease_ttl=ttl)

    @app.task(limit=2, retries=0)
    async def work(number: int, seconds: float = 0.0) -> int:
        return int(await seen.body(number, seconds))

    return app, work


def epoch(client: redis.Redis, shop: Shop) -> str:
    return str(client.hget(shop.key("clock"), "ep"))


def synced(replica: redis.Redis) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


async def follow(replica: redis.Redis, primary: Server) -> None:
    replica.replicaof("127.0.0.1", primary.port)
    await until(lambda: synced(replica), "the replica is in sync")


async def back_up(server: Server, file: Path) -> None:
    """A backup as operators take it."""
    redis_cli = binary_of("redis6").with_name("redis-cli")
    await anyio.run_process([str(redis_cli), "-p", str(server.port), "--rdb", str(file)])
    assert (await anyio.Path(file).read_bytes()).startswith(b"REDIS")


async def test_replicas_and_backups_are_no_new_server(
    shop: Shop, primary: Server, new_server: Callable[..., Server], tmp_path: Path
) -> None:
    """A replica attaches and leaves, a backup is taken, the replication backlog is freed: the replication id changes each time, the
    epoch does not. No body is cancelled, no limited task waits.
    """
    seen = Witness()
    app, work = with_task(shop, seen)
    worker = await shop.start(app)
    shop.end_quarantine()
    with primary.client() as client, new_server(*QUICK_SYNC).client() as replica:
        async with app:
            await (await work.enqueue(0)).result(timeout=10)
            long = await work.enqueue(1, 3.0)
            await until(lambda: seen.running == 1, "the long one runs")
            ids, began, member = [replid(client)], epoch(client, shop), worker.id

            async def look(what: str) -> None:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await until(
                    lambda: client.hget(shop.key("clock"), "repl") == replid(client), f"{what} was noticed"
                )
                ids.append(replid(client))
                assert epoch(client, shop) == began

            await follow(replica, primary)
            await look("a replica")
            await back_up(primary, tmp_path / "dump.rdb")
            await look("a backup")
            replica.replicaof("NO", "ONE")
            client.config_set("repl-backlog-ttl", 1)
            await until(lambda: replid(client) != ids[-1], "the backlog was freed")
            await look("the end of the backlog")
            assert await long.result(timeout=10) == 1
            assert len(set(ids)) == 3
        assert worker.id == member
        assert not shop.said("server.forgot")
        assert len(shop.said("quarantine.start")) == 1
        await worker.drain()
        assert leaks(client, "facts") == []


def replid(client: redis.Redis) -> str:
    return str(client.info("replication")["master_replid"])


async def test_a_server_that_followed_another_one_is_a_new_server(
    shop: Shop, primary: Server, new_server: Callable[..., Server]
) -> None:
    """REPLICAOF to another server and back: the same process, but its data may be older. A new epoch begins, limited tasks wait for
    one lease, and what was submitted runs.
    """
    seen = Witness()
    app, work = with_task(shop, seen)
    worker = await shop.start(app)
    shop.end_quarantine()
    other = new_server(*QUICK_SYNC)
    with primary.client() as client, other.client() as second:
        async with app:
            await (await work.enqueue(0)).result(timeout=10)
            await follow(second, primary)
            began = epoch(client, shop)
            second.replicaof("NO", "ONE")
            await follow(client, other)
            client.replicaof("NO", "ONE")
            await until(lambda: epoch(client, shop) != began, "another epoch")
            await until(
                lambda: len(shop.said("quarantine.start")) + len(shop.said("server.forgot")) >= 2,
                "it is said",
            )
            with anyio.fail_after(10):
                assert await submitted(work, 1) == 1
        await worker.drain()
        assert leaks(client, "facts") == []


async def submitted(work: Any, number: int) -> Any:
    try:
        job = await work.enqueue(number)
    except flowq.SubmitUnknown as error:
        job = await error.resend()
    return await job.result(timeout=10)


async def test_a_restarted_server_is_a_new_server(
    anyio_backend: object, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart over an append-only file, shorter than the lease: a new epoch, what runs is confirmed and goes on, limited tasks
    start nothing for one lease.
    """
    seen = Witness()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp")))
        server = stack.enter_context(running(version, *options, folder=home))
        async with open_shop(server, "facts", caplog) as shop:
            app, work = with_task(shop, seen, ttl=2.0)
            worker = await shop.start(app)
            shop.end_quarantine()
            async with app:
                await (await work.enqueue(0)).result(timeout=10)
                jobs = [await work.enqueue(n, 0.5) for n in (1, 2)]
                await until(lambda: seen.running == 2, "two run")
                with server.client() as client:
                    began = epoch(client, shop)
                server.process.kill()
                server.process.wait()
                restarted = anyio.current_time()
                server = stack.enter_context(running(version, *options, port=server.port, folder=home))
                with server.client() as client:
                    await until(lambda: shop.said("server.forgot"), "it is said")
                    assert epoch(client, shop) != began
                    await until(lambda: seen.running == 0, "both end")
                    third = await submitted(work, 3)
                    assert [await job.result(timeout=10) for job in jobs] == [1, 2]
            assert third == 3
            assert [run.what for run in seen.runs] == [0, 1, 2, 3]
            assert seen.runs[-1].start - restarted >= 1.9
            assert not shop.said("lease.lost")
            await worker.drain()
            with server.client() as client:
                assert leaks(client, "facts") == []
