"""One blocking command at a time, and the ways in which it ends."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from flowq import OutcomeUnknown, Unavailable
from flowq.backends.redis.blocking import BlockingReader, open_reader
from flowq.backends.redis.channel import Channel, open_channel
from flowq.backends.redis.replies import NoGroup

from .conftest import Proxy, Server, until


@asynccontextmanager
async def reading(server: Server, name: str) -> AsyncIterator[tuple[BlockingReader, Channel]]:
    async with (
        open_channel(server.address) as channel,
        open_reader(server.address, channel, name=name) as reader,
    ):
        yield reader, channel


async def blocked(channel: Channel, name: str) -> dict[str, str] | None:
    """The client of that name, if it is blocked in a command now."""
    listed: bytes = await channel.execute("CLIENT", "LIST")
    for line in listed.decode().splitlines():
        row = dict(field.partition("=")[::2] for field in line.split())
        if row["name"] == name and "b" in row["flags"]:
            return row
    return None


async def until_blocked(channel: Channel, name: str) -> dict[str, str]:
    await until(lambda: blocked(channel, name))
    row = await blocked(channel, name)
    assert row is not None
    return row


async def test_a_doorbell(server: Server, key: str) -> None:
    """A reader on the doorbell stream returns with the ring as soon as it comes, and with None when its BLOCK is over."""
    async with reading(server, key) as (reader, channel):
        await channel.execute("XGROUP", "CREATE", key, "flowq", "$", "MKSTREAM")
        command = ("XREADGROUP", "GROUP", "flowq", "m", "COUNT", 8, "NOACK", "BLOCK", 50, "STREAMS", key, ">")

        assert await reader.read(*command, block=0.05) is None
        got: list[Any] = []

        async def read() -> None:
            got.append(await reader.read(*command[:8], 5000, *command[9:], block=5.0))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await until_blocked(channel, key)
            await channel.execute("XADD", key, "1-1", "r", "1")

        assert got == [[[key.encode(), [[b"1-1", [b"r", b"1"]]]]]]


async def test_unblock(server: Server, key: str) -> None:
    """``unblock`` makes a waiting read return None, long before its BLOCK; the link stays in use."""
    async with reading(server, key) as (reader, channel):
        ids: set[str] = set()
        for _ in range(3):
            got: list[Any] = []

            async def read(got: list[Any] = got) -> None:
                got.append(await reader.read("BLPOP", key, 30, block=30))

            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(read)
                    ids.add((await until_blocked(channel, key))["id"])
                    reader.unblock()

            assert got == [None]
        assert len(ids) == 1


async def test_an_unblock_that_overtakes_its_command(server: Server, key: str) -> None:
    """``unblock`` in the very tick of the read comes before the command reached Redis; it is repeated until it takes effect."""
    async with reading(server, key) as (reader, _):
        await reader.read("PING")
        for delay in (0.0, 0.0001, 0.0005, 0.001, 0.002):
            with anyio.fail_after(2):
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: reader.read("BLPOP", key, 30, block=30))
                    while "reading" not in repr(reader):
                        await anyio.lowlevel.checkpoint()
                    await anyio.sleep(delay)
                    reader.unblock()


async def test_unblock_while_it_connects(proxy: Proxy, server: Server, key: str) -> None:
    """A read that still connects, or waits out its backoff, is ended too; nothing is sent then."""
    proxy.silent = True
    async with (
        open_channel(server.address) as channel,
        open_reader(proxy.address(), channel, name=key) as reader,
        anyio.create_task_group() as group,
    ):
        got: list[Any] = []

        async def read() -> None:
            got.append(await reader.read("LPUSH", key, "x", block=30))

        group.start_soon(read)
        await until(lambda: proxy.requests)
        reader.unblock()
        await until(lambda: got)

        assert got == [None]
        assert await channel.execute("EXISTS", key) == 0


async def test_unblock_without_a_read(server: Server, key: str) -> None:
    """It does nothing, now and to a read that comes later."""
    async with reading(server, key) as (reader, channel):
        reader.unblock()
        await reader.read("PING")
        reader.unblock()
        await anyio.sleep(0.02)
        await channel.execute("RPUSH", key, "x")

        assert await reader.read("BLPOP", key, 5, block=5) == [key.encode(), b"x"]


async def test_a_cancelled_read_closes_its_link(server: Server, key: str) -> None:
    """At once, so that Redis serves no ring to a reader that is gone; the next read opens a new link."""
    async with reading(server, key) as (reader, channel):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: reader.read("BLPOP", key, 30, block=30))
                first = await until_blocked(channel, key)
                scope.cancel()

        async def gone() -> bool:
            return await blocked(channel, key) is None

        await until(gone)
        await channel.execute("RPUSH", key, "x")

        assert await reader.read("BLPOP", key, 5, block=5) == [key.encode(), b"x"]
        assert await reader.read("CLIENT", "ID") != int(first["id"])


async def test_one_read_at_a_time(server: Server, key: str) -> None:
    """A second read while one waits is a mistake of the caller."""
    async with reading(server, key) as (reader, channel), anyio.create_task_group() as group:
        group.start_soon(lambda: reader.read("BLPOP", key, 30, block=30))
        await until_blocked(channel, key)
        with pytest.raises(anyio.BusyResourceError):
            await reader.read("PING")
        reader.unblock()


async def test_a_link_that_dies_while_it_waits(server: Server, key: str) -> None:
    """It is reported, and the next read connects again after its backoff."""
    async with reading(server, key) as (reader, channel):

        async def kill() -> None:
            row = await until_blocked(channel, key)
            await channel.execute("CLIENT", "KILL", "ID", row["id"])

        async with anyio.create_task_group() as group:
            group.start_soon(kill)
            with pytest.raises(OutcomeUnknown):
                await reader.read("BLPOP", key, 30, block=30)

        assert await reader.read("PING") == b"PONG"


async def test_a_server_that_falls_silent(
    new_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some time past its BLOCK a read gives up: the link counts as dead."""
    monkeypatch.setattr("flowq.backends.redis.blocking.SLACK", 0.1)
    server = new_server()
    async with reading(server, "r") as (reader, _):
        await reader.read("PING")
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown, match=r"within 0\.2 s"):
            await reader.read("BLPOP", "k", 0.1, block=0.1)
        server.process.send_signal(signal.SIGCONT)


async def test_a_server_that_is_away(proxy: Proxy, server: Server, key: str) -> None:
    """Each read says so; a caller that calls again at once is slowed down by the backoff."""
    address = proxy.address()
    proxy.close()
    async with open_channel(server.address) as channel, open_reader(address, channel) as reader:
        began = anyio.current_time()
        for _ in range(4):
            with pytest.raises(Unavailable, match="refused"):
                await reader.read("PING")

        # 0.05, 0.1 and 0.2 s, of which at least half
        assert anyio.current_time() - began >= 0.175


async def test_a_refused_command(server: Server, key: str) -> None:
    """An error reply is raised as what it is, and the link is kept."""
    async with reading(server, key) as (reader, _):
        first = await reader.read("CLIENT", "ID")
        with pytest.raises(NoGroup):
            await reader.read("XREADGROUP", "GROUP", "g", "m", "BLOCK", 10, "STREAMS", key, ">", block=0.01)

        assert await reader.read("CLIENT", "ID") == first
