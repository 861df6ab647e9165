"""The conformance suite's harness over a real redis-server: small TTLs, real time."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from flowq.backends.protocol import Backend
from flowq.backends.redis import scripts
from flowq.backends.redis.keys import Keys, app_prefix
from flowq.backends.redis.open import open_redis
from flowq.backends.redis.script import Script
from flowq.backends.redis.url import parse_url


class RedisHarness:
    """Clients of a fresh app in a shared server; time is real, so the lease is short."""

    ttl = 0.8

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self._stack = stack
        self._url = url
        self._client = parse_url(url).sync_client()
        self._keys = Keys("")
        self._new = True

    async def make(self) -> Backend:
        self._keys = Keys(app_prefix(f"t{secrets.token_hex(4)}"))
        self._new = True
        return await self.another()

    async def another(self) -> Backend:
        # each app is new to this server, so none of them can have been forgotten: no quarantine at the first join
        place = open_redis(self._url, prefix=self._keys.prefix, name="contract", created_empty=self._new)
        return await self._stack.enter_async_context(place)

    async def pass_time(self, seconds: float) -> None:
        """The lease clock moves by at most TTL/6 per call: somebody must call, as any idle worker does."""
        deadline = anyio.current_time() + seconds
        while (left := deadline - anyio.current_time()) > 0:
            await anyio.sleep(min(left, self.ttl / 12))
            self._call(scripts.PROMOTE)

    async def server_ms(self) -> int:
        seconds, micros = self._client.time()
        return seconds * 1000 + micros // 1000

    async def forget(self, *, keep_jobs: bool) -> None:
        if keep_jobs:
            self._client.hset(self._keys.clock, "run", "another")
            self._call(scripts.HELLO, secrets.token_hex(8))
        else:
            self._new = False
            self.wipe()

    def _call(self, script: Script, *args: scripts.Arg) -> None:
        script.call_sync(self._client, [self._keys.clock], args)

    def wipe(self) -> None:
        """Take this app's keys away, as a test must not leave any behind in the shared server."""
        if self._keys.prefix:
            names = list(
                self._client.scan_iter(match=self._keys.prefix.replace("[", "\\[") + "*", count=1000)
            )
            if names:
                self._client.delete(*names)

    def close(self) -> None:
        self.wipe()
        self._client.close()


@asynccontextmanager
async def open_harness(url: str) -> AsyncIterator[RedisHarness]:
    async with AsyncExitStack() as stack:
        harness = RedisHarness(stack, url)
        try:
            yield harness
        finally:
            harness.close()
