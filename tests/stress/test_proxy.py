"""The proxy does to a line what its methods say, and nothing else."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.stress import wire
from tests.stress.proxy import Link, Trap

Play = Callable[[Link], Awaitable[None]]


def through(play: Play) -> list[bytes]:
    """Run ``play`` with a link to a server that answers each piece with ``<piece>``; gives the pieces that reached the server."""
    return trio.run(functools.partial(_through, play))


async def _through(play: Play) -> list[bytes]:
    seen: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        try:
            while data := await stream.receive_some(1000):
                seen.append(data)
                await stream.send_all(b"<" + data + b">")
        except trio.BrokenResourceError:
            pass

    with tempfile.TemporaryDirectory() as folder, trio.fail_after(10):
        path = Path(folder, "s")
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(path))
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(listener)])
            link = Link(path, random.Random(1))
            await nursery.start(link.serve)
            await play(link)
            nursery.cancel_scope.cancel()
    return seen


async def call(link: Link) -> trio.SocketStream:
    """A new connection through the link."""
    return await trio.open_tcp_stream("127.0.0.1", int(link.url.rpartition(":")[2].partition("/")[0]))


async def ask(stream: trio.SocketStream, data: bytes) -> bytes:
    """Send a piece and read what comes; empty or an error: the connection has ended."""
    await stream.send_all(data)
    return await stream.receive_some(1000)


def test_it_forwards() -> None:
    """Both ways, piece by piece."""

    async def play(link: Link) -> None:
        async with await call(link) as stream:
            assert await ask(stream, b"one") == b"<one>"
            assert await ask(stream, b"two") == b"<two>"

    assert through(play) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("way", "what", "arrives", "comes_back"),
    [
        ("up", "none", [], b""),
        ("up", "half", [b"ab"], b""),
        ("down", "none", [b"abcd"], b""),
        ("down", "half", [b"abcd"], b"<ab"),
    ],
)
def test_a_cut_ends_the_connection_at_that_piece(
    way: str, what: str, arrives: list[bytes], comes_back: bytes
) -> None:
    """In half or not at all, on one way; the next connection is good."""

    async def play(link: Link) -> None:
        link.cut_next(way, what)  # type: ignore[arg-type]
        got = b""
        async with await call(link) as stream:
            try:
                await stream.send_all(b"abcd")
                while data := await stream.receive_some(1000):
                    got += data
            except trio.BrokenResourceError:
                pass
        # half of a request is answered too, in this game; a reset may overtake that
        assert got in ({comes_back, b"<ab>"} if arrives == [b"ab"] else {comes_back})
        async with await call(link) as stream:
            assert await ask(stream, b"again") == b"<again>"

    assert through(play) == [*arrives, b"again"]


def test_silence_keeps_what_was_sent_and_delivers_it_late() -> None:
    """Nobody is told: both ends see an open connection."""

    async def play(link: Link) -> None:
        async with trio.open_nursery() as nursery, await call(link) as stream:
            assert await ask(stream, b"one") == b"<one>"
            nursery.start_soon(functools.partial(link.silence, 0.3, reset=False))
            await trio.sleep(0.05)
            began = trio.current_time()
            assert await ask(stream, b"two") == b"<two>"
            assert trio.current_time() - began > 0.2

    assert through(play) == [b"one", b"two"]


def test_a_silence_that_ends_by_a_reset_delivers_nothing() -> None:
    """What was sent into it never arrives."""

    async def play(link: Link) -> None:
        async with trio.open_nursery() as nursery, await call(link) as stream:
            assert await ask(stream, b"one") == b"<one>"
            nursery.start_soon(functools.partial(link.silence, 0.2, reset=True))
            await trio.sleep(0.05)
            with suppress(trio.BrokenResourceError):
                assert await ask(stream, b"two") == b""

    assert through(play) == [b"one"]


def test_a_trickle_loses_nothing() -> None:
    """Only the pieces are smaller."""

    async def play(link: Link) -> None:
        text = bytes(range(48, 98)) * 4
        async with trio.open_nursery() as nursery, await call(link) as stream:
            nursery.start_soon(link.trickle, 0.2)
            await trio.sleep(0.05)
            await stream.send_all(text)
            got = b""
            while len(got.replace(b"<", b"").replace(b">", b"")) < len(text) - 10:
                got += await stream.receive_some(1000)
            nursery.cancel_scope.cancel()

    assert b"".join(through(play)) == bytes(range(48, 98)) * 4


@pytest.mark.parametrize(("moment", "arrives"), [("request", [b"first"]), ("reply", [b"first", b"call sha"])])
def test_a_trap_springs_once_at_its_moment(moment: str, arrives: list[bytes]) -> None:
    """Before the script's call reaches the server, or when the reply is back that nobody will see."""
    sprung: list[object] = []

    async def play(link: Link) -> None:
        async with await call(link) as stream:
            assert await ask(stream, b"first") == b"<first>"
            wanted = wire.call if moment == "request" else wire.grants
            trap = link.set_trap(Trap(b"sha", moment, wanted, sprung.append))  # type: ignore[arg-type]
            with suppress(trio.BrokenResourceError):
                assert await ask(stream, b'call sha "task":"wide"') == b""
            assert trap.sprung.is_set()
            assert link.trap is None

    seen = through(play)
    assert [piece.removesuffix(b' "task":"wide"') for piece in seen] == arrives
    assert sprung == [True if moment == "request" else {"wide": 1}]


def test_a_request_can_arrive_after_its_connection() -> None:
    """Its sender sees a reset and connects again; the server gets it when the trap frees it."""

    async def play(link: Link) -> None:
        trap = link.set_trap(Trap(b"sha", "request", wire.call, lambda _: None, then="late"))
        async with await call(link) as stream:
            with suppress(trio.BrokenResourceError):
                assert await ask(stream, b"call sha") == b""
        async with await call(link) as stream:
            assert await ask(stream, b"again") == b"<again>"
        trap.free.set()
        await trap.arrived.wait()

    assert through(play) == [b"again", b"call sha"]


def test_a_trap_that_lets_pass_changes_nothing() -> None:
    """It only tells, here of the first reply that is none of a script which is not loaded."""
    heard: list[object] = []

    async def play(link: Link) -> None:
        trap = link.set_trap(Trap(b"sha", "reply", lambda data: b"good" in data, heard.append, then="pass"))
        async with await call(link) as stream:
            assert await ask(stream, b"sha bad") == b"<sha bad>"
            assert not trap.sprung.is_set()
            assert await ask(stream, b"sha good") == b"<sha good>"

    assert through(play) == [b"sha bad", b"sha good"]
    assert heard == [True]
