"""Pub/sub on a link of its own: hints that something changed, never the only word of it.

A message is lost when the link is down, so every fact that is told here also lies in a key, and ``on_gap`` tells the owner when to look
there: each time that a subscription has taken effect, the first time as well as after a reconnect, since whatever was published before
that moment may have been missed. There is no polling; a PING every 30 s shows a dead link.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from anyio.abc import TaskStatus
from trio.lowlevel import enable_ki_protection

from flowq._errors import FlowqError, OutcomeUnknown, Unavailable
from flowq.backends.redis.connection import (
    NOTHING,
    Connection,
    connect,
    pack,
    reconnect_delay,
    running_beside,
)
from flowq.backends.redis.replies import ErrorReply, as_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from flowq.backends.redis.url import Address

logger = logging.getLogger("flowq.redis")

PING_EVERY: Final = 30.0
"""Seconds between two PING."""
PONG_WITHIN: Final = 10.0
"""Seconds after a PING without any byte, after which the link counts as dead."""


class Listener:
    """Made with ``open_listener``, or with its ``run`` started in a nursery. Belongs to one event loop.

    It connects when there is a subscription, and again whenever the link is lost.
    """

    def __init__(
        self,
        address: Address,
        *,
        name: str = "flowq-listener",
        ping_every: float = PING_EVERY,
        pong_within: float = PONG_WITHIN,
    ) -> None:
        """Nothing is connected before the first subscription.

        Args:
            address: which Redis.
            name: shown by CLIENT LIST.
            ping_every: seconds between two PING.
            pong_within: seconds after a PING without any byte, after which the link counts as dead.
        """
        self._address = address
        self._where = address.redacted()
        self._name = name
        self._on_gap: list[Callable[[], object]] = []
        self._ping_every = ping_every
        self._pong_within = pong_within
        self._callbacks: dict[bytes, list[Callable[[bytes], object]]] = {}
        self._active: set[bytes] = set()
        """Subscriptions that the server has confirmed on the link at hand."""
        self._asked: set[bytes] = set()
        """Subscriptions that were sent on the link at hand."""
        self._wake = anyio.Event()
        self._changed = anyio.Event()
        self._heard = 0
        self._ping_due = False
        self._trouble: FlowqError | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Listener of {self._where} ({len(self._active)} of {len(self._callbacks)} subscriptions active)>"

    def subscribe(self, channel_name: str, callback: Callable[[bytes], object]) -> None:
        """Call ``callback`` (in the event loop) with each message on that channel, from some moment soon on; then ``on_gap`` is called.

        A second callback for the channel is called too; the same one again changes nothing. An exception in it is logged.
        """
        callbacks = self._callbacks.setdefault(channel_name.encode(), [])
        if callback not in callbacks:
            callbacks.append(callback)
            self._wake.set()

    def unsubscribe(self, channel_name: str, callback: Callable[[bytes], object] | None = None) -> None:
        """Call that callback (None: any callback of that channel) no more."""
        name = channel_name.encode()
        left = (
            [] if callback is None else [kept for kept in self._callbacks.get(name, ()) if kept != callback]
        )
        if left:
            self._callbacks[name] = left
        elif self._callbacks.pop(name, None) is not None:
            self._wake.set()

    def on_gap(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` (in the event loop) when subscriptions have taken effect: messages before that may have been missed."""
        self._on_gap.append(callback)

    async def wait_subscribed(self, channel_name: str) -> None:
        """Wait until the subscription is in effect: every message published from now on will come, while the link holds.

        Raises:
            Unavailable: the listener was closed.
        """
        while channel_name.encode() not in self._active:
            if self._closed:
                raise Unavailable(f"the listener of {self._where} is closed")
            await self._changed.wait()

    # --- the listener's own tasks ---

    @enable_ki_protection
    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Nothing that Redis does ends it: trouble is logged, and tried again."""
        task_status.started()
        failures = 0
        try:
            while True:
                while not self._callbacks:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                await self._session()
                failures = 0 if self._active else failures + 1
                self._forget_link()
                await anyio.sleep(reconnect_delay(failures))
        finally:
            self._closed = True
            self._forget_link()

    def _forget_link(self) -> None:
        self._active.clear()
        self._asked.clear()
        self._ping_due = False
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _session(self) -> None:
        """One link, from connecting to its loss."""
        connection: Connection | None = None

        @enable_ki_protection
        async def until_lost(part: Callable[[Connection], Awaitable[None]], connection: Connection) -> None:
            try:
                await part(connection)
            except FlowqError as error:
                self._note(error)
                group.cancel_scope.cancel()

        try:
            connection = await connect(self._address, name=self._name, protocol=3)
            async with anyio.create_task_group() as group:
                for part in (self._write, self._read, self._ping):
                    group.start_soon(until_lost, part, connection)
        except FlowqError as error:
            self._note(error)
        finally:
            if connection is not None:
                await connection.aclose()

    async def _write(self, connection: Connection) -> None:
        while True:
            data = self._changes()
            if data:
                await connection.send(data)
            else:
                self._wake = anyio.Event()
                await self._wake.wait()

    def _changes(self) -> bytes:
        wanted = set(self._callbacks)
        commands = [
            pack((verb, *sorted(names)))
            for verb, names in (("SUBSCRIBE", wanted - self._asked), ("UNSUBSCRIBE", self._asked - wanted))
            if names
        ]
        self._asked = wanted
        self._active &= wanted
        if self._ping_due:
            self._ping_due = False
            commands.append(pack(("PING",)))
        return b"".join(commands)

    async def _read(self, connection: Connection) -> None:
        while True:
            await connection.receive()
            self._heard += 1
            began = False
            while (reply := connection.next_reply()) is not NOTHING:
                if isinstance(reply, ErrorReply):
                    raise as_error(reply, self._where)
                began |= self._take(reply)
            if began:
                self._trouble = None
                self._tell_waiters()
                for callback in self._on_gap:
                    self._call(callback)

    def _take(self, reply: Any) -> bool:
        """Hand a message on. True: a subscription has taken effect."""
        # a list in RESP2, a push in RESP3; the answer to PING is neither in RESP3, and ["pong", ""] in RESP2
        if not isinstance(reply, list) or len(cast("Sequence[Any]", reply)) != 3:
            return False
        kind, name, data = cast("tuple[bytes, bytes, Any]", reply)
        if kind == b"message":
            for callback in tuple(self._callbacks.get(name, ())):
                self._call(callback, data)
        elif kind == b"subscribe" and name in self._callbacks:
            self._active.add(name)
            return True
        return False

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            # one owner's defect must not silence the others
            logger.exception("a callback of %r failed", self, extra={"event": "listener.callback_failed"})

    async def _ping(self, _: Connection) -> None:
        while True:
            await anyio.sleep(self._ping_every)
            heard = self._heard
            self._ping_due = True
            self._wake.set()
            await anyio.sleep(self._pong_within)
            if heard == self._heard:
                raise OutcomeUnknown(f"{self._where} has not answered a PING for {self._pong_within:g} s")

    def _note(self, error: FlowqError) -> None:
        """Once per kind of trouble: the channel reports outages, this room only what concerns subscriptions alone."""
        if type(error) is type(self._trouble):
            return
        self._trouble = error
        passing = isinstance(error, Unavailable | OutcomeUnknown)
        extra = {"event": "listener.lost", "server": self._where, "reason": str(error)}
        logger.log(
            logging.DEBUG if passing else logging.ERROR,
            "not listening to %s: %s",
            self._where,
            error,
            extra=extra,
        )


@asynccontextmanager
async def open_listener(
    address: Address,
    *,
    name: str = "flowq-listener",
    ping_every: float = PING_EVERY,
    pong_within: float = PONG_WITHIN,
) -> AsyncGenerator[Listener]:
    """A listener for the length of a block. Arguments as ``Listener``. It connects at the first subscription."""
    listener = Listener(address, name=name, ping_every=ping_every, pong_within=pong_within)
    async with running_beside(listener.run):
        yield listener
