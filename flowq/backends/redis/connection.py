"""One thin link to Redis: connect, log in, send, receive, close. Not a second redis-py.

RESP2 is spoken where commands are called, so that a command's reply has one shape whether HELLO was taken or refused, and the same
shape as in redis-py's synchronous client and in scripts (measured: no difference in speed for arrays). RESP3 is spoken by the
``listener``, where messages then come as pushes and cannot be taken for replies.

An anyio ``TLSStream`` is used by a sending and a receiving task at once. That is right for TLS 1.2 and 1.3 as Redis speaks them; if
a peer asked for a key update in the very moment of a blocked write, anyio raises ``BusyResourceError``, which counts as a loss here.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
from asyncio.trsock import TransportSocket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import anyio
import hiredis
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from flowq._errors import ConfigurationError, OutcomeUnknown, Unavailable
from flowq.backends.redis.login import log_in
from flowq.backends.redis.replies import ErrorReply, as_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Sequence

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
LONGEST_DELAY: Final = 2.0


class _Nothing:
    """The parser has no whole reply yet (``None`` is a reply)."""


NOTHING: Final = _Nothing()

_LOST = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
    anyio.EndOfStream,
    ssl.SSLError,
    hiredis.HiredisError,
)


def reconnect_delay(failures: int) -> float:
    """Seconds to wait before connecting again: 0.05 doubled up to 2, of which a random half, so that a fleet does not march."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret


class Connection:
    """One open, logged-in link. Made by ``connect``; used by one task, or by one that sends and one that receives.

    ``send`` and ``receive`` raise ``OutcomeUnknown`` when the link is lost: a request may have been on its way.
    """

    def __init__(self, stream: ByteStream, address: Address) -> None:
        self._stream = stream
        self._plain = _plain_socket(stream, address)
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
        with _as_loss(self.where):
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
        with _as_loss(self.where):
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
        await _close(self._stream)


async def _close(stream: ByteStream) -> None:
    # not aclose_forcefully: cancelled in its one checkpoint, anyio 4.15 leaves the asyncio transport open
    with anyio.CancelScope(shield=True):
        try:
            await stream.aclose()
        except _LOST:
            return  # it was closed by the other side before


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


@contextmanager
def _as_loss(where: str) -> Generator[None]:
    try:
        yield
    except _LOST as error:
        raise OutcomeUnknown(f"the connection to {where} was lost: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The cause in a few words, found under anyio's wrappers."""
    if isinstance(error, anyio.EndOfStream):
        return "closed by the server"
    if isinstance(error, BaseExceptionGroup):
        inner: tuple[BaseException, ...] = cast("Any", error).exceptions
        return "; ".join(dict.fromkeys(map(_reason, inner)))
    # anyio's "all connection attempts failed" has no errno of its own
    wrapped = (
        isinstance(error, anyio.BrokenResourceError)
        or (isinstance(error, OSError) and error.errno is None)
        or not str(error)
    )
    if wrapped and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


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
            connection = Connection(await _open_stream(address), address)
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


async def _open_stream(address: Address) -> ByteStream:
    try:
        if address.path is not None:
            return await _open_unix(address.path)
        stream = await anyio.connect_tcp(address.host, address.port)
    except OSError as error:
        raise Unavailable(f"cannot reach {address}: {_reason(error)}") from error
    _tune(stream.extra(SocketAttribute.raw_socket), address.reply_timeout)  # noqa: S610 -- anyio, not Django
    return stream if address.tls is None else await _start_tls(stream, address)


async def _open_unix(path: str) -> ByteStream:
    """Not ``anyio.connect_unix``: its asyncio stream sets a cancelled future ("invalid state" in the log) when it is closed while
    it becomes readable, and spins while the server's backlog is full.
    """
    raw = socket.socket(socket.AF_UNIX)
    try:
        raw.setblocking(False)
        while True:
            try:
                raw.connect(path)
            except BlockingIOError:
                await anyio.sleep(FIRST_DELAY)
            else:
                return await SocketStream.from_socket(raw)
    except BaseException:
        raw.close()
        raise


def _plain_socket(stream: ByteStream, address: Address) -> socket.socket | TransportSocket | None:
    """The socket, if writing to it cannot overtake bytes that the stream still holds.

    anyio's streams on trio hold none, and on asyncio's own transports none once ``send`` has returned (their high-water mark is
    0); a transport of uvloop writes at the end of the loop's turn.
    """
    raw: object = stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 -- anyio, not Django
    if address.tls is None and os.name == "posix" and isinstance(raw, socket.socket | TransportSocket):
        return raw
    return None


def _tune(raw: socket.socket, reply_timeout: float) -> None:
    """No delay for small writes; and a dead peer is noticed by the kernel too, where it can do that."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(reply_timeout * 1000))


async def _start_tls(stream: ByteStream, address: Address) -> ByteStream:
    assert address.tls is not None
    done = False
    try:
        wrapped = await TLSStream.wrap(
            stream,
            server_side=False,
            hostname=address.host,
            ssl_context=address.tls.context(),
            standard_compatible=False,
        )
        done = True
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"the certificate of {address} is not trusted ({error.verify_message}): name its CA with ?ssl_ca_certs=/path"
        ) from error
    except ssl.SSLError as error:
        hint = (
            "; if it speaks no TLS, begin the URL with redis://"
            if error.reason == "WRONG_VERSION_NUMBER"
            else ""
        )
        raise ConfigurationError(f"no TLS with {address}: {error.reason or error}{hint}") from error
    except _LOST as error:
        raise Unavailable(f"no TLS with {address}: {_reason(error)}") from error
    finally:
        if not done:
            await _close(stream)
    return wrapped
