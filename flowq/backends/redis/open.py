"""Opening an app's place in Redis: the connections, and the four parts over them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flowq.backends.protocol import Capabilities
from flowq.backends.redis import health, scripts
from flowq.backends.redis.blocking import open_reader
from flowq.backends.redis.channel import open_channel
from flowq.backends.redis.fleet import RedisFleet
from flowq.backends.redis.keys import Keys, check_layout
from flowq.backends.redis.listener import open_listener
from flowq.backends.redis.replies import ErrorReply, as_error
from flowq.backends.redis.results import RedisResults
from flowq.backends.redis.stream import RedisStream
from flowq.backends.redis.timers import RedisTimers
from flowq.backends.redis.url import parse_url

if TYPE_CHECKING:
    from flowq._errors import FlowqError
    from flowq.backends.redis.blocking import BlockingReader
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.connection import Connection
    from flowq.backends.redis.listener import Listener
    from flowq.backends.redis.pipeline import OnConnect

CAPABILITIES = Capabilities(
    name="redis",
    exact_delay=True,
    cancel_ready=True,
    ordered=True,
    delivery_count=True,
    survives_process=True,
)


def _greeting(keys: Keys) -> OnConnect:
    """What each new connection of an app sends first: the scripts, and has the server forgotten? Before any claim (LEASE R1).

    All scripts are loaded here, because a settle that is loaded and sent again runs after the claim that left in the same write:
    the token that it frees would be seen by nobody until the next poll.
    """

    async def greet(connection: Connection) -> None:
        version = connection.server_version
        hello = scripts.HELLO.command(version, [keys.clock], [secrets.token_hex(8)])
        loads = [("SCRIPT", "LOAD", script.text_for(version)) for script in scripts.ALL]
        replies = await connection.raw_many([*loads, hello])
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise as_error(reply, connection.where)
        check_layout(replies[-1][1].decode())

    return greet


class RedisBackend:
    """One app's place in Redis, open. One worker at a time uses its Stream and Fleet; any number of producers its ``submit``."""

    capabilities = CAPABILITIES

    def __init__(
        self, channel: Channel, reader: BlockingReader, listener: Listener, keys: Keys, *, created_empty: bool
    ) -> None:
        pools: dict[str, str] = {}
        self._channel = channel
        self.stream = RedisStream(channel, reader, keys, pools)
        self.fleet = RedisFleet(channel, listener, keys, channel.address, pools, created_empty=created_empty)
        self.timers = RedisTimers(channel, keys)
        self.results = RedisResults(channel, listener, keys)
        listener.on_gap(self.results.look_again)

    @property
    def generation(self) -> int:
        return self._channel.generation

    async def wait_up(self) -> None:
        await self._channel.wait_up()

    @property
    def why_down(self) -> FlowqError | None:
        return self._channel.why_down

    async def warnings(self) -> list[str]:
        return await health.warnings(self._channel)


@asynccontextmanager
async def open_redis(
    url: str, *, prefix: str, name: str, created_empty: bool = False
) -> AsyncIterator[RedisBackend]:
    """Open an app's place for the length of a block.

    Args:
        url: see ``url.parse_url``.
        prefix: of the app's keys (``keys.app_prefix``).
        name: shown by CLIENT LIST.
        created_empty: this very program created the server's data, empty: nothing can have been forgotten, so limited tasks start
            without the quarantine of one lease TTL that every other fresh server costs.

    Raises:
        BadURL: at once. AuthenticationFailed, ServerTooOld, ReadOnlyServer, IncompatibleLayout: the first connection cannot work. A
            server that cannot be reached does not raise: ``wait_up`` waits for it, and every call says ``Unavailable`` until then.
    """
    address = parse_url(url)
    keys = Keys(prefix)
    async with (
        open_channel(address, name=name, on_connect=_greeting(keys)) as channel,
        open_listener(address, name=f"{name}-listen") as listener,
        open_reader(address, channel, name=f"{name}-bell") as reader,
    ):
        yield RedisBackend(channel, reader, listener, keys, created_empty=created_empty)
