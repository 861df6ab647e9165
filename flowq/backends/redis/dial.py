"""Byte streams to a server: opened over TCP, TLS or a unix socket, closed, and what their errors mean.

An anyio ``TLSStream`` is used by a sending and a receiving task at once. That is right for TLS 1.2 and 1.3 as Redis speaks them; if
a peer asked for a key update in the very moment of a blocked write, anyio raises ``BusyResourceError``, which counts as a loss here.
"""

from __future__ import annotations

import os
import socket
import ssl
from asyncio.trsock import TransportSocket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import hiredis
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from flowq._errors import ConfigurationError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator

    from flowq.backends.redis.url import Address

BACKLOG_PAUSE: Final = 0.05
"""Seconds until a unix socket whose server has a full backlog is tried again."""

_LOST = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
    anyio.EndOfStream,
    ssl.SSLError,
    hiredis.HiredisError,
)


async def open_stream(address: Address) -> ByteStream:
    """Connect; nothing is said yet.

    Raises:
        Unavailable: nobody listens, or no such host. ConfigurationError: TLS cannot be agreed on.
    """
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
                await anyio.sleep(BACKLOG_PAUSE)
            else:
                return await SocketStream.from_socket(raw)
    except BaseException:
        raw.close()
        raise


def plain_socket(stream: ByteStream, address: Address) -> socket.socket | TransportSocket | None:
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
            await close_stream(stream)
    return wrapped


async def close_stream(stream: ByteStream) -> None:
    """Close at once. Never raises, waits for nobody, and is not disturbed by a cancellation."""
    # not aclose_forcefully: cancelled in its one checkpoint, anyio 4.15 leaves the asyncio transport open
    with anyio.CancelScope(shield=True):
        try:
            await stream.aclose()
        except _LOST:
            return  # it was closed by the other side before


@contextmanager
def as_loss(where: str) -> Generator[None]:
    """Turn what a broken stream raises into ``OutcomeUnknown``: a request may have been on its way."""
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
