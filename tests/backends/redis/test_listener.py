"""Pub/sub: messages, and being told when some may have been missed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import attrs
import pytest

from flowq import Unavailable
from flowq.backends.redis.channel import Channel, open_channel
from flowq.backends.redis.listener import open_listener

from .conftest import Proxy, Server, until


async def kill(channel: Channel, name: str) -> None:
    listed: bytes = await channel.execute("CLIENT", "LIST")
    for line in listed.decode().splitlines():
        row = dict(field.partition("=")[::2] for field in line.split())
        if row["name"] == name:
            await channel.execute("CLIENT", "KILL", "ID", row["id"])


async def test_messages_arrive(server: Server, key: str) -> None:
    """A message reaches the callbacks of its channel, and of no other."""
    async with open_channel(server.address) as channel, open_listener(server.address) as listener:
        one: list[bytes] = []
        two: list[bytes] = []
        listener.subscribe(f"{key}1", one.append)
        listener.subscribe(f"{key}2", two.append)
        await listener.wait_subscribed(f"{key}1")
        await listener.wait_subscribed(f"{key}2")
        await channel.execute("PUBLISH", f"{key}1", b"\x00a")
        await channel.execute("PUBLISH", f"{key}2", b"b")
        await until(lambda: bool(one and two))

    assert (one, two) == ([b"\x00a"], [b"b"])


async def test_nothing_connects_before_the_first_subscription(server: Server, key: str) -> None:
    """A listener that nobody uses costs no connection; later subscriptions share one."""
    async with open_channel(server.address) as channel, open_listener(server.address, name=key) as listener:
        assert key.encode() not in await channel.execute("CLIENT", "LIST")
        for number in range(3):
            listener.subscribe(f"{key}{number}", lambda _: None)
            await listener.wait_subscribed(f"{key}{number}")

        listed: bytes = await channel.execute("CLIENT", "LIST")
        assert listed.count(f"name={key} ".encode()) == 1


async def test_subscribing_again_changes_nothing(server: Server, key: str) -> None:
    """The same callback is called once; another one for the channel is called too, until it is taken off."""
    async with open_channel(server.address) as channel, open_listener(server.address) as listener:
        mine: list[bytes] = []
        other: list[bytes] = []
        for _ in range(3):
            listener.subscribe(key, mine.append)
        listener.subscribe(key, other.append)
        await listener.wait_subscribed(key)
        await channel.execute("PUBLISH", key, "1")
        await until(lambda: mine == other == [b"1"])
        listener.unsubscribe(key, other.append)
        await channel.execute("PUBLISH", key, "2")
        await until(lambda: mine == [b"1", b"2"])

        assert other == [b"1"]


async def test_unsubscribing_the_last_ends_it_on_the_server(server: Server, key: str) -> None:
    """Nobody listens any more, and subscribing anew works."""
    async with open_channel(server.address) as channel, open_listener(server.address) as listener:
        got: list[bytes] = []
        listener.subscribe(key, got.append)
        await listener.wait_subscribed(key)
        listener.unsubscribe(key)
        listener.unsubscribe("never subscribed")

        async def unheard() -> bool:
            return int(await channel.execute("PUBLISH", key, "x")) == 0

        await until(unheard)
        got.clear()
        listener.subscribe(key, got.append)
        await listener.wait_subscribed(key)
        await channel.execute("PUBLISH", key, "y")
        await until(lambda: got == [b"y"])


async def test_a_gap_is_announced(server: Server, key: str) -> None:
    """Each time that subscriptions take effect, first or after a loss, the owner is told to look at its facts."""
    async with open_channel(server.address) as channel, open_listener(server.address, name=key) as listener:
        gaps: list[int] = []
        got: list[bytes] = []
        listener.on_gap(lambda: gaps.append(len(got)))
        listener.subscribe(key, got.append)
        await until(lambda: len(gaps) == 1)
        await kill(channel, key)
        await until(lambda: len(gaps) == 2)
        await channel.execute("PUBLISH", key, "after")
        await until(lambda: got == [b"after"])


async def test_a_callback_that_fails(server: Server, key: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and called again with the next message; the others get theirs."""
    async with open_channel(server.address) as channel, open_listener(server.address) as listener:
        got: list[bytes] = []

        def broken(_: bytes) -> None:
            raise ValueError("mine")

        listener.subscribe(key, broken)
        listener.subscribe(key, got.append)
        await listener.wait_subscribed(key)
        for text in ("1", "2"):
            await channel.execute("PUBLISH", key, text)
        await until(lambda: got == [b"1", b"2"])

    assert [record.__dict__["event"] for record in caplog.records] == ["listener.callback_failed"] * 2


async def test_a_dead_link_is_noticed(proxy: Proxy, key: str) -> None:
    """A link over which nothing comes any more, not even the answer to a PING, is made anew."""
    async with open_listener(proxy.address(), ping_every=0.05, pong_within=0.1) as listener:
        gaps: list[None] = []
        listener.on_gap(lambda: gaps.append(None))
        listener.subscribe(key, lambda _: None)
        await until(lambda: len(gaps) == 1)
        await anyio.sleep(0.3)
        assert len(gaps) == 1
        proxy.silent = True
        await until(lambda: "0 of 1" in repr(listener))
        proxy.silent = False
        await until(lambda: len(gaps) == 2)


async def test_a_server_without_hello(new_server: Callable[..., Server], key: str) -> None:
    """With RESP2, where messages and the answer to PING are lists alike, it works the same."""
    server = new_server("--rename-command", "HELLO", "")
    async with (
        open_channel(server.address) as channel,
        open_listener(server.address, ping_every=0.02, pong_within=0.1) as listener,
    ):
        got: list[bytes] = []
        listener.subscribe(key, got.append)
        await listener.wait_subscribed(key)
        await anyio.sleep(0.15)
        await channel.execute("PUBLISH", key, "x")
        await until(lambda: got == [b"x"])


async def test_what_the_acl_forbids_is_logged_once(
    new_server: Callable[..., Server], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A channel that this user may not listen to ends nothing: it is logged, and tried again until it is allowed."""
    server = new_server(*["--user", "poor", "on", ">p", "~*", "+@all", "resetchannels"])
    address = attrs.evolve(server.address, username="poor", password="p")
    async with open_channel(server.address) as channel, open_listener(address) as listener:
        listener.subscribe(key, lambda _: None)
        await until(lambda: any(record.levelno == logging.ERROR for record in caplog.records))
        await anyio.sleep(0.2)
        await channel.execute("ACL", "SETUSER", "poor", "allchannels")
        with anyio.fail_after(5):
            await listener.wait_subscribed(key)

    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


async def test_closing_wakes_who_waits(proxy: Proxy, key: str) -> None:
    """Waiting for a subscription of a closed listener ends with an error."""
    proxy.silent = True
    async with open_listener(proxy.address()) as listener:
        listener.subscribe(key, lambda _: None)
    with pytest.raises(Unavailable, match="closed"):
        await listener.wait_subscribed(key)
