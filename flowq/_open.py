"""From a URL to an open place: the one room that knows which scheme is which backend."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import anyio
import anyio.to_thread

from flowq._errors import BadURL, ConfigurationError, NoServer
from flowq._session import Session
from flowq._sync import SyncPlace, ThroughLoop
from flowq.backends.protocol import OpenBackend

if TYPE_CHECKING:
    from flowq.backends.kafka.url import KafkaAddress
    from flowq.backends.memory import MemoryServer
    from flowq.backends.redis.open import RedisBackend
    from flowq.backends.redis.sync import SyncRedis

SCHEMES = "redis://, rediss://, unix://, embedded://[dir] or memory://"


def scheme_of(url: str | None) -> str:
    """The scheme of a URL that flowq serves.

    Raises:
        NoServer: there is no URL. BadURL: the scheme is none of ours; the rest of the URL is not shown.
    """
    if not url:
        raise NoServer(
            "no server was named: set FLOWQ_URL (redis://localhost:6379/0), pass App(url=…), or ask for a private server on this "
            "machine with embedded://[dir]"
        )
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix", "embedded", "memory"):
        found = f"begins with {scheme}://" if separator and scheme.isalnum() else "begins with no scheme"
        raise BadURL(f"the URL {found}; flowq takes {SCHEMES}")
    return scheme


def embedded_folder(url: str, name: str) -> Path:
    """Where the private server of ``embedded://[dir]`` keeps its data; without a dir, one per app in the user's data home."""
    if folder := unquote(url.partition("://")[2]):
        return Path(folder).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home, "flowq", name).expanduser()


def broker_of(broker: str, scheme: str) -> KafkaAddress:
    """Where Kafka is.

    Raises:
        ConfigurationError: its client is not installed, or there is no Redis beside it. BadURL: see ``parse_kafka_url``.
    """
    if scheme == "memory":
        raise ConfigurationError(
            "broker= needs a Redis for leases, limits, retries and results: memory:// is none; say url='redis://…'"
        )
    if find_spec("confluent_kafka") is None:
        raise ConfigurationError("broker= needs the client of Kafka: pip install 'trio-flowq[kafka]'")
    from flowq.backends.kafka.url import parse_kafka_url

    return parse_kafka_url(broker)


class Places:
    """How an app reaches its place, again and again; and what must outlive one opening."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._memory: MemoryServer | None = None
        self._diversion: MemoryServer | None = None
        self._created_empty = False

    @contextmanager
    def diverted(self, server: MemoryServer) -> Generator[None]:
        """Until the block ends, whoever opens the place gets a client of this server, whatever the URL: see ``flowq.testing``."""
        before, self._diversion = self._diversion, server
        try:
            yield
        finally:
            self._diversion = before

    def opener(self, url: str | None, namespace: str | None, broker: str | None = None) -> OpenBackend:
        """What opens one client of the place.

        Args:
            broker: of Kafka, if plain jobs go by it.

        Raises:
            NoServer, BadURL: see ``scheme_of``. InvalidName: the namespace.
        """
        if self._diversion is not None:
            from flowq.backends.memory import open_memory

            return partial(open_memory, self._diversion)
        scheme = scheme_of(url)
        assert url is not None
        address = broker_of(broker, scheme) if broker else None
        if scheme == "memory":
            from flowq.backends.memory import MemoryServer, open_memory

            self._memory = self._memory or MemoryServer()
            return partial(open_memory, self._memory)
        from flowq.backends.redis.keys import app_prefix, full_name
        from flowq.backends.redis.open import open_redis

        prefix = app_prefix(self._name, namespace)
        if scheme == "embedded":
            redis = partial(self._open_embedded, embedded_folder(url, self._name), prefix)
        else:
            redis = partial(open_redis, url, prefix=prefix, name=self._name)
        if address is None:
            return redis
        from flowq.backends.kafka.open import open_kafka

        return partial(open_kafka, address, full_name(self._name, namespace), redis)

    def open_blocking(
        self,
        url: str | None,
        namespace: str | None,
        session: Callable[[], Session],
        *,
        broker: str | None = None,
    ) -> SyncPlace:
        """The place for code without an event loop. Nothing connects before the first call.

        Args:
            session: what the app has open in some event loop of this process: ``memory://`` lives there.

        Raises:
            NoServer, BadURL: see ``scheme_of``. InvalidName: the namespace.
        """
        if self._diversion is not None:
            return ThroughLoop(session)
        scheme = scheme_of(url)
        assert url is not None
        address = broker_of(broker, scheme) if broker else None
        if scheme == "memory":
            return ThroughLoop(session)
        redis = self._blocking_redis(url, scheme, namespace)
        if address is None:
            return redis
        from flowq.backends.kafka.open import open_sync_kafka
        from flowq.backends.redis.keys import full_name

        return open_sync_kafka(address, full_name(self._name, namespace), redis)

    def _blocking_redis(self, url: str, scheme: str, namespace: str | None) -> SyncRedis:
        from flowq.backends.redis.keys import app_prefix
        from flowq.backends.redis.sync import SyncRedis

        prefix = app_prefix(self._name, namespace)
        if scheme != "embedded":
            return SyncRedis(url, prefix=prefix)
        from flowq.backends.redis.embedded import start_embedded

        server = start_embedded(embedded_folder(url, self._name))
        self._created_empty |= server.created_empty
        return SyncRedis(server.url, prefix=prefix, on_close=server.release)

    @asynccontextmanager
    async def _open_embedded(self, folder: Path, prefix: str) -> AsyncGenerator[RedisBackend]:
        from flowq.backends.redis.embedded import start_embedded
        from flowq.backends.redis.open import open_redis

        server = await anyio.to_thread.run_sync(start_embedded, folder)
        # the app's second client in this process finds the server running: it was created by this very program all the same
        self._created_empty |= server.created_empty
        try:
            async with open_redis(
                server.url, prefix=prefix, name=self._name, created_empty=self._created_empty
            ) as backend:
                yield backend
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.release)
