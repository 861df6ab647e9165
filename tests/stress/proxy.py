"""A worker's way to the server, which can be bad: a TCP proxy that delays, cuts, swallows and stops forwarding."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

Way = Literal["up", "down"]
CHUNK = 1 << 16
ANSWERS = 1.0
"""Seconds in which a server answers what came late."""


@attrs.define(eq=False)
class Trap:
    """Waits for one kind of script on the wire, and then does something once.

    Attributes:
        script: SHA1 of the script whose call springs it.
        moment: ``request``: before the call reaches the server; ``reply``: when its reply is back.
        wanted: what is in that piece; if it is nothing the trap waits for the next one.
        spring: called with what was found.
        then: what becomes of the piece: ``cut``: nobody will see it; ``pass``: it goes on its way; ``late``: its sender's connection ends,
            and the request reaches the server when ``free`` is set.
    """

    script: bytes
    moment: Literal["request", "reply"]
    wanted: Callable[[bytes], Any]
    spring: Callable[[Any], object]
    then: Literal["cut", "pass", "late"] = "cut"
    found: Any = None
    sprung: trio.Event = attrs.field(factory=trio.Event)
    free: trio.Event = attrs.field(factory=trio.Event)
    arrived: trio.Event = attrs.field(factory=trio.Event)
    """The server has answered what came late, or is not there any more."""


@attrs.define(eq=False)
class _Line:
    """One connection through the proxy."""

    down: trio.SocketStream
    up: trio.SocketStream
    asked: bool = False
    """The trap's call went up on this one; its reply comes next."""
    outlived: bool = False
    """What it carried is still under way to the server."""


class Cut(Exception):
    """This connection ends here, by a reset."""


class Link:
    """One worker's proxy. ``url`` is what the worker is given; it stays the same over the worker's lives."""

    def __init__(self, upstream: Path, chance: random.Random) -> None:
        self._upstream = upstream
        self._chance = chance
        self._lines: set[_Line] = set()
        self._open = trio.Event()
        self._open.set()
        self._refuses = False
        self._delay = 0.0
        self._trickles = False
        self._once: tuple[Way, Literal["half", "none"]] | None = None
        self._nursery: trio.Nursery | None = None
        self.trap: Trap | None = None
        self.url = ""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"redis://127.0.0.1:{listener.socket.getsockname()[1]}/0"
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(trio.serve_listeners, self._connect, [listener])
            task_status.started()

    # --- what can be wrong with it ----------------------------------------------------------------------------------------

    async def slow(self, seconds: float, delay: float) -> None:
        """Each piece takes up to ``delay`` longer."""
        self._delay = delay
        await trio.sleep(seconds)
        self._delay = 0.0

    async def trickle(self, seconds: float) -> None:
        """Bytes arrive one by one, or nearly so."""
        self._trickles = True
        await trio.sleep(seconds)
        self._trickles = False

    async def silence(self, seconds: float, *, reset: bool) -> None:
        """Nothing is forwarded and nobody is told. Afterwards late pieces arrive, or (``reset``) all connections end."""
        self.shut()
        await trio.sleep(seconds)
        self.reopen(reset=reset)

    def shut(self) -> None:
        """From now on nothing is forwarded and nobody is told."""
        self._open = trio.Event()

    def reopen(self, *, reset: bool) -> None:
        """The end of ``shut``."""
        if reset:
            self.cut_all()
        self._open.set()

    async def refuse(self, seconds: float) -> None:
        """All connections end, and new ones are refused."""
        self._refuses = True
        self.cut_all()
        await trio.sleep(seconds)
        self._refuses = False

    def cut_next(self, way: Way, what: Literal["half", "none"]) -> None:
        """The next piece on that way arrives in half, or not at all, and then its connection ends."""
        self._once = (way, what)

    def cut_all(self) -> None:
        """Every connection ends by a reset, both sides."""
        for line in list(self._lines):
            _reset(line)

    def set_trap(self, trap: Trap) -> Trap:
        """Wait for the next call of its script."""
        for line in self._lines:
            line.asked = False
        self.trap = trap
        return trap

    # --- forwarding -------------------------------------------------------------------------------------------------------

    async def _connect(self, down: trio.SocketStream) -> None:
        await self._open.wait()
        try:
            if self._refuses:
                raise OSError("refused")
            up = trio.SocketStream(await _unix(self._upstream))
        except OSError:
            _abort(down)
            return
        line = _Line(down, up)
        self._lines.add(line)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, line, "up", nursery.cancel_scope)
                nursery.start_soon(self._pump, line, "down", nursery.cancel_scope)
        finally:
            self._lines.discard(line)
            _reset(line)

    async def _pump(self, line: _Line, way: Way, scope: trio.CancelScope) -> None:
        source, target = (line.down, line.up) if way == "up" else (line.up, line.down)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, Cut):
            while data := await source.receive_some(CHUNK):
                if self._delay:
                    await trio.sleep(self._chance.uniform(0, self._delay))
                await self._open.wait()
                await self._forward(line, way, data, target)
            await self._open.wait()
        scope.cancel()

    async def _forward(self, line: _Line, way: Way, data: bytes, target: trio.SocketStream) -> None:
        self._look(line, way, data)
        if self._once is not None and self._once[0] == way:
            what, self._once = self._once[1], None
            if what == "half":
                await target.send_all(data[: len(data) // 2])
            raise Cut
        if not self._trickles:
            await target.send_all(data)
            return
        while data:
            size = self._chance.choice((1, 1, 2, 7, 100, 1000))
            await target.send_all(data[:size])
            data = data[size:]

    def _look(self, line: _Line, way: Way, data: bytes) -> None:
        """Spring the trap if this is what it waits for."""
        trap = self.trap
        if trap is None:
            return
        if way == "up" and trap.script in data:
            line.asked = True
        is_here = (
            way == "up" and trap.script in data if trap.moment == "request" else way == "down" and line.asked
        )
        if is_here and (found := trap.wanted(data)):
            self._spring(trap, found, line, data)

    def _spring(self, trap: Trap, found: Any, line: _Line, data: bytes) -> None:
        self.trap = None
        if trap.then == "late":
            assert self._nursery is not None
            line.outlived = True
            self._nursery.start_soon(_arrive_late, line.up, data, trap)
        trap.found = found
        trap.spring(found)
        trap.sprung.set()
        if trap.then != "pass":
            raise Cut


async def _arrive_late(up: trio.SocketStream, data: bytes, trap: Trap) -> None:
    try:
        await trap.free.wait()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(ANSWERS):
            await up.send_all(data)
            await up.receive_some(CHUNK)
    finally:
        up.socket.close()
        trap.arrived.set()


async def _unix(path: Path) -> trio.socket.SocketType:
    found = trio.socket.socket(socket.AF_UNIX)
    try:
        await found.connect(str(path))
    except BaseException:
        found.close()
        raise
    return found


def _abort(stream: trio.SocketStream) -> None:
    """Close with a reset, as a machine that has gone does."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def _reset(line: _Line) -> None:
    _abort(line.down)
    if not line.outlived:
        line.up.socket.close()
