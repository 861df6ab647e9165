"""One thin link to Redis: connect, log in, send, receive, close. Not a second redis-py.

RESP2 is spoken where commands are called, so that a command's reply has one shape whether HELLO was taken or refused, and the same
shape as in redis-py's synchronous client and in scripts (measured: no difference in speed for arrays). RESP3 is spoken by the
``listener``, where messages then come as pushes and cannot be taken for replies.
"""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import anyio
import hiredis
from anyio.abc import ByteStream

from flowq._errors import OutcomeUnknown, Unavailable
from flowq.backends.redis.dial import as_loss, close_stream, open_stream, plain_socket
from flowq.backends.redis.login import log_in
from flowq.backends.redis.replies import ErrorReply, as_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence

    from flowq.backends.redis.url import Address

Arg = bytes | str | int | float
"""What a command is made of. Integers and floats are written in decimal."""

pack: Callable[[tuple[Arg, ...]], bytes] = cast("Any", hiredis.pack_command)
"""A command as it goes over the wire. (hiredis's own annotation says a tuple of one.)"""

READ_SIZE: Final = 65536
"""Bytes of one read: as much as anyio's asyncio streams hand over at once. Larger reads measured no faster on trio."""
PARSER_BUFFER: Final = 1 << 20
"""Bytes that the parser keeps allocated between large replies."""
FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
"""Seconds. After an outage that outlasts all leases nobody renews, and the jobs of the dead wait for the first who tries to connect."""


class _Nothing:
    """The parser has no whole reply yet (``None`` is a reply)."""


NOTHING: Final = _Nothing()


def reconnect_delay(failures: int) -> float:
    """Seconds to wait before connecting again: 0.05 doubled up to 1, of which a random half, so that a fleet does not march."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret


class Connection:
    """One open, logged-in link. Made by ``connect``; used by one task, or by one that sends and one that receives.

    ``send`` and ``receive`` raise ``OutcomeUnknown`` when the link is lost: a request may have been on its way.
    """

    def __init__(self, stream: ByteStream, address: Address) -> None:
        self._stream = stream
        self._plain = plain_socket(stream, address)
        self._parser = hiredis.Reader(replyError=ErrorReply, notEnoughData=NOTHING)
        self._parser.setmaxbuf(PARSER_BUFFER)
        self._outstanding = 0
        self.address = address
        self.where = address.redacted()
        self.client_id = 0
        self.server_version: tuple[int, int, int] = (0, 0, 0)
        self.role = ""
        """``master`` or ``replica``, as HELLO said; a replica is refused only when a write is answered READONLY."""
        self.protocol: Literal[2, 3] = 2

    def __repr__(self) -> str:
        version = ".".join(map(str, self.server_version))
        return f"<Connection to {self.where} (Redis {version}, client {self.client_id})>"

    async def send(self, data: bytes) -> None:
        """Write all of ``data``. If this is cancelled, the connection is of no use any more."""
        with as_loss(self.where):
            await self._stream.send(data)

    def send_now(self, data: bytes) -> int:
        """Write what the kernel takes at once, without a checkpoint: a turn of the scheduler less. Only while no ``send`` is under way.

        Returns:
            How many bytes; the rest is for ``send``. 0 where it cannot be done (TLS, a foreign event loop, a full buffer, a lost link).
        """
        if self._plain is None:
            return 0
        try:
            return os.write(self._plain.fileno(), data)
        except OSError:
            return 0  # the next send or receive says what is wrong

    async def receive(self) -> None:
        """Wait for some bytes and give them to the parser."""
        with as_loss(self.where):
            self._parser.feed(await self._stream.receive(READ_SIZE))

    def next_reply(self) -> Any:
        """The next whole reply, or ``NOTHING``. Error replies are returned as ``ErrorReply``."""
        try:
            return self._parser.gets()
        except hiredis.HiredisError as error:
            raise OutcomeUnknown(f"{self.where} sent what is no Redis reply: {error}") from error

    async def raw_many(self, commands: Iterable[Sequence[Arg]], *, timeout: float | None = None) -> list[Any]:
        """Send commands in one write and wait for their replies, ``ErrorReply`` among them. One caller at a time.

        Args:
            commands: each a sequence of arguments.
            timeout: seconds for all of it; None takes the address's ``reply_timeout``.

        Raises:
            OutcomeUnknown: the link was lost, or the time was over. The connection is then closed, as it is after a cancellation.
        """
        packed = [pack(tuple(command)) for command in commands]
        seconds = self.address.reply_timeout if timeout is None else timeout
        self._outstanding += len(packed)
        replies: list[Any] = []
        try:
            with anyio.move_on_after(seconds):
                await self.send(b"".join(packed))
                while len(replies) < len(packed):
                    reply = self.next_reply()
                    if reply is NOTHING:
                        await self.receive()
                    else:
                        replies.append(reply)
                        self._outstanding -= 1
        finally:
            # a reply that is still to come would be taken for the next command's
            if self._outstanding:
                await self.aclose()
        if self._outstanding:
            raise OutcomeUnknown(f"{self.where} did not answer within {seconds:g} s")
        return replies

    async def execute(self, *args: Arg, timeout: float | None = None) -> Any:
        """Send one command and wait for its reply. Raises the error that an error reply stands for."""
        (reply,) = await self.raw_many([args], timeout=timeout)
        if isinstance(reply, ErrorReply):
            raise as_error(reply, self.where)
        return reply

    async def aclose(self) -> None:
        """Close at once. Never raises, waits for nobody, and is not disturbed by a cancellation."""
        await close_stream(self._stream)


@asynccontextmanager
async def running_beside(run: Callable[..., Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Start ``run`` (it takes ``task_status``), do the block, end ``run``. An error comes out as itself, not in a group of one."""
    try:
        async with anyio.create_task_group() as group:
            await group.start(run)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
    except BaseExceptionGroup as several:
        if len(several.exceptions) > 1:
            raise
        error: BaseException = cast("Any", several).exceptions[0]
        raise error from error.__cause__


async def connect(
    address: Address, *, name: str, connect_timeout: float | None = None, protocol: Literal[2, 3] = 2
) -> Connection:
    """Connect and log in: HELLO with AUTH and SETNAME, or AUTH and CLIENT SETNAME where HELLO is refused; then SELECT.

    Args:
        address: where, and with which password.
        name: shown by CLIENT LIST; characters that Redis refuses there become ``-``.
        connect_timeout: seconds for all of it; None takes the address's.
        protocol: RESP version to ask for. After a refused HELLO it is 2.

    Raises:
        Unavailable: nobody listens, no such host, no answer in time, or the server is not ready.
        AuthenticationFailed: wrong user or password, or the ACL forbids to log in.
        ServerTooOld: Redis below 6.2.
        ConfigurationError: the server's certificate is not trusted, TLS spoken to a plain port, or an ``ssl_…`` file is bad.
    """
    seconds = address.connect_timeout if connect_timeout is None else connect_timeout
    connection: Connection | None = None
    ready = False
    try:
        with anyio.move_on_after(seconds):
            connection = Connection(await open_stream(address), address)
            await log_in(connection, name, protocol)
            ready = True
            return connection
        hint = "" if address.tls is None else " (if it speaks no TLS, begin the URL with redis://)"
        raise Unavailable(f"{address} did not answer within {seconds:g} s{hint}")
    except OutcomeUnknown as error:
        hint = "" if address.tls is not None else "; if it speaks TLS, begin the URL with rediss://"
        raise Unavailable(f"{error} (while logging in{hint})") from error
    finally:
        if connection is not None and not ready:
            await connection.aclose()
