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

from flowq._errors import OutcomeUnknown, ServerError
from flowq.backends.redis.connection import Arg, Connection, connect, reconnect_delay, running_beside
from flowq.backends.redis.replies import ErrorReply, as_error, rule_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.url import Address

SLACK: Final = 2.0
"""Seconds past BLOCK after which a reply is not waited for any more."""
UNBLOCK_EVERY: Final = 0.005
"""Seconds between two CLIENT UNBLOCK of which the first came too early."""


class BlockingReader:
    """Made with ``open_reader``, or with its ``run`` started in a nursery (which ``unblock`` needs). Belongs to one event loop."""

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
        self._read: anyio.CancelScope | None = None
        """The read that goes on now: its scope while it prepares (cancelling it is enough then)."""
        self._sent = False
        self._unwanted = anyio.Event()

    def __repr__(self) -> str:
        return f"<BlockingReader of {self._address} ({'connected' if self._connection else 'not connected'})>"

    async def read(self, *command: Arg, block: float = 1.0) -> Any:
        """Send a blocking command and wait for its reply. One at a time.

        Args:
            command: the command, with its own BLOCK in it.
            block: the same in seconds; the link counts as dead two seconds later.

        Returns:
            The reply; None if the time was over or ``unblock`` was called.

        Raises:
            Unavailable: no connection, or nothing came in time. Calling again at once is right: the next read waits its backoff.
            OutcomeUnknown: the link broke meanwhile; what it carried is lost.
            ServerError: the server refused the command (``replies.NoGroup``: the stream is gone).
        """
