"""A link of its own for one blocking command at a time: ``XREADGROUP … BLOCK … NOACK`` on the doorbell.

What such a command may lose: the reply to a read that was cancelled, or whose link broke. So only reads whose reply is a hint belong
here; nothing may be claimed with them.

A read ends by its reply, by its own BLOCK, by ``unblock`` (CLIENT UNBLOCK over a channel, as another link may overtake this one
that is sent again until it answers 1 or the read has returned), by cancellation (the link is closed: a reply to nobody must not
answer the next read), or two seconds after its BLOCK (the link counts as dead).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskStatus
from trio.lowlevel import enable_ki_protection

from flowq._errors import FlowqError, OutcomeUnknown, ServerError
from flowq.backends.redis.connection import Arg, Connection, connect, reconnect_delay, running_beside
from flowq.backends.redis.replies import ErrorReply, as_error, rule_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.url import Address

SLACK: Final = 2.0
"""Seconds past BLOCK after which a reply is not waited for any more."""
UNBLOCK_EVERY: Final = 0.005
"""Seconds between a CLIENT UNBLOCK that came too early and the next; doubles up to ``LONGEST_UNBLOCK_DELAY``."""
LONGEST_UNBLOCK_DELAY: Final = 0.1


class _Turn:
    """One read, from its call to its return."""

    __slots__ = ("client_id", "preparing", "unwanted")

    def __init__(self) -> None:
        self.preparing = anyio.CancelScope()
        self.client_id: int | None = None
        """Set when the command goes out: from then on CLIENT UNBLOCK is the way to end it."""
        self.unwanted = False


class BlockingReader:
    """Made with ``open_reader``, or with its ``run`` started in a nursery (``unblock`` needs that). Belongs to one event loop."""

    def __init__(self, address: Address, channel: Channel, *, name: str = "flowq-reader") -> None:
        """Nothing is connected before the first read.

        Args:
            address: which Redis.
            channel: of the same Redis; CLIENT UNBLOCK goes over it.
            name: shown by CLIENT LIST.
        """
        self._address = address
        self._channel = channel
        self._name = name
        self._connection: Connection | None = None
        self._failures = 0
        self._guard = anyio.ResourceGuard("reading from")
        self._turn: _Turn | None = None
        self._asked = anyio.Event()

    def __repr__(self) -> str:
        state = "not connected" if self._connection is None else "connected"
        return f"<BlockingReader of {self._address} ({state}, {'reading' if self._turn else 'idle'})>"

    async def read(self, *command: Arg, block: float = 1.0) -> Any:
        """Send a blocking command and wait for its reply. One at a time. May be cancelled at any time.

        Args:
            command: the command, with its own BLOCK in it.
            block: the same in seconds; the link counts as dead two seconds later.

        Returns:
            The reply; None if the time was over or ``unblock`` was called.

        Raises:
            Unavailable: no connection. OutcomeUnknown: the link broke or died; a reply that it carried is lost. After both, calling
                again at once is right: the next read begins with the backoff (0.05 s doubling up to 1 s).
            ServerError: the server refused the command (``replies.NoGroup``: the stream is gone).
        """
        with self._guard:
            turn = self._turn = _Turn()
            try:
                with turn.preparing:
                    connection = await self._connected()
                    turn.client_id = connection.client_id
                if turn.client_id is None or turn.preparing.cancel_called:
                    return None
                return await self._read(command, block)
            finally:
                self._turn = None

    def unblock(self) -> None:
        """Make the read that waits now return None soon. Does nothing if there is none; a read that starts meanwhile may be hit too."""
        turn = self._turn
        if turn is None:
            return
        if turn.client_id is None:
            turn.preparing.cancel()
            return
        turn.unwanted = True
        self._asked.set()

    @enable_ki_protection
    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry out ``unblock`` until cancelled; then close the link."""
        task_status.started()
        try:
            while True:
                await self._asked.wait()
                self._asked = anyio.Event()
                if self._turn is not None and self._turn.unwanted:
                    await self._end(self._turn)
        finally:
            await self._drop()

    async def _end(self, turn: _Turn) -> None:
        delay = UNBLOCK_EVERY
        while turn is self._turn and turn.client_id is not None:
            try:
                if await self._channel.execute("CLIENT", "UNBLOCK", turn.client_id) == 1:
                    return
            except ServerError:
                # then the read ends by its own BLOCK or deadline; until then it is worth trying
                delay = LONGEST_UNBLOCK_DELAY
            await anyio.sleep(delay)
            delay = min(2 * delay, LONGEST_UNBLOCK_DELAY)

    async def _connected(self) -> Connection:
        if self._connection is None:
            if self._failures:
                await anyio.sleep(reconnect_delay(self._failures - 1))
            try:
                self._connection = await connect(self._address, name=self._name)
            except FlowqError:
                self._failures += 1
                raise
        return self._connection

    async def _read(self, command: tuple[Arg, ...], block: float) -> Any:
        connection = self._connection
        assert connection is not None
        answered = False
        try:
            (reply,) = await connection.raw_many([command], timeout=block + SLACK)
            answered = not (isinstance(reply, ErrorReply) and rule_of(reply).drop)
        except OutcomeUnknown:
            self._failures += 1
            raise
        finally:
            if not answered:
                await self._drop()
        self._failures = 0
        if isinstance(reply, ErrorReply):
            raise as_error(reply, connection.where)
        return reply

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()


@asynccontextmanager
async def open_reader(
    address: Address, channel: Channel, *, name: str = "flowq-reader"
) -> AsyncGenerator[BlockingReader]:
    """A reader for the length of a block. Arguments as ``BlockingReader``. It connects at the first read."""
    reader = BlockingReader(address, channel, name=name)
    async with running_beside(reader.run):
        yield reader
