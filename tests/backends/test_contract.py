"""Every clause of the contract, for every backend, on trio and asyncio.

A backend joins by one line in ``PLACES``: an async context manager that gives its ``Harness``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
import trio.testing

from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.protocol import Backend
from flowq.testing.conformance import ALL, Check, Harness
from flowq.testing.faults import Faulty
from tests.backends.redis_harness import open_harness
from tests.backends.virtual_loop import VirtualLoop
from tests.conftest import RedisServer


class MemoryHarness:
    """The memory backend follows the clock of the loop, which is virtual here: time costs nothing."""

    ttl = 10.0

    def __init__(self, stack: AsyncExitStack, wrap: Callable[[Backend], Backend] | None = None) -> None:
        self._stack = stack
        self._wrap = wrap
        self._server = MemoryServer(audited=True)

    async def make(self) -> Backend:
        self._server = MemoryServer(audited=True)
        return await self.another()

    async def another(self) -> Backend:
        backend = await self._stack.enter_async_context(open_memory(self._server))
        return self._wrap(backend) if self._wrap is not None else backend

    async def pass_time(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def server_ms(self) -> int:
        return self._server.now_ms

    async def forget(self, *, keep_jobs: bool) -> None:
        self._server.forget(keep_jobs=keep_jobs)


@asynccontextmanager
async def memory(wrap: Callable[[Backend], Backend] | None = None) -> AsyncIterator[MemoryHarness]:
    async with AsyncExitStack() as stack:
        yield MemoryHarness(stack, wrap)


@attrs.frozen
class Place:
    """A backend that keeps the contract."""

    name: str
    open: Callable[[RedisServer], AbstractAsyncContextManager[Harness]]
    """Given the run's redis-server, for those who want it."""
    virtual: bool = False
    """Its time follows the event loop's clock, so that it may leap."""


PLACES = [
    Place("memory", lambda _: memory(), virtual=True),
    Place("memory_over_a_good_line", lambda _: memory(Faulty), virtual=True),
    Place("redis", lambda server: open_harness(server.url)),
]


@pytest.fixture(params=PLACES, ids=lambda place: place.name)
def place(request: pytest.FixtureRequest) -> Place:
    assert isinstance(request.param, Place)
    return request.param


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest, place: Place) -> tuple[str, dict[str, Any]]:
    """Both event loops; under virtual time where the place allows it."""
    if not place.virtual:
        return request.param, {}
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_contract(check: Check, place: Place, redis_server: RedisServer) -> None:
    """The clause that the check's own docstring states."""
    async with place.open(redis_server) as harness:
        await check(harness)


def test_every_clause_is_stated() -> None:
    """Each check has a name of its own and a docstring that states its clause."""
    names = [check.__name__ for check in ALL]
    assert len(names) == len(set(names))
    assert all(check.__name__.startswith("check_") and check.__doc__ for check in ALL)
