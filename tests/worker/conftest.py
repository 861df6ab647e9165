"""Workers of one app on a real redis-server, in this process: started as a user starts them, judged by what their bodies saw."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import anyio
import attrs
import pytest
import redis
from anyio.abc import TaskGroup, TaskStatus

import flowq
from flowq._runtime.worker import Worker
from flowq.backends.redis.url import parse_url
from tests.conftest import RedisServer, leaks, running_redis

TTL = 1.0
"""Seconds of these tests' leases; so a fresh server's quarantine is over after one."""


@attrs.define(eq=False)
class Run:
    """One run of a body, as the body saw it. Times are the loop's."""

    what: Any
    worker: str
    start: float
    end: float = 0.0
    ended: bool = False
    """It came to its last line."""
    reason: str | None = None
    """Why it was cancelled, as the body was told."""


class Witness:
    """What bodies did, told by themselves."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.running = 0
        self.peak = 0

    async def body(self, what: Any, seconds: float) -> Any:
        """A body that takes so long. Returns ``what``."""
        job = flowq.current_job()
        run = Run(what, job.id, anyio.current_time())
        self.runs.append(run)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await anyio.sleep(seconds)
            run.ended = True
        finally:
            self.running -= 1
            run.end = anyio.current_time()
            run.reason = job.cancel_reason
        return what

    def done(self) -> list[Any]:
        """Of the runs that came to their last line: what was asked for, sorted."""
        return sorted(run.what for run in self.runs if run.ended)


class Shop:
    """One app on one server, and its workers."""

    def __init__(self, tasks: TaskGroup, url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
        self.url = url
        self.name = name
        self._tasks = tasks
        self._caplog = caplog
        self._scopes: dict[Worker, anyio.CancelScope] = {}
        self._ended: set[anyio.CancelScope] = set()

    def app(self, **options: Any) -> flowq.App[Any]:
        """The app, as one more program defines it."""
        return flowq.App(self.name, self.url, **{"lease_ttl": TTL, **options})

    async def start(self, app: flowq.App[Any], **options: Any) -> Worker:
        """Start a worker; see ``flowq.run`` for its options."""
        scope = anyio.CancelScope()
        worker: Worker = await self._tasks.start(partial(self._serve, app, scope, options))
        self._scopes[worker] = scope
        return worker

    async def _serve(
        self,
        app: flowq.App[Any],
        scope: anyio.CancelScope,
        options: dict[str, Any],
        *,
        task_status: TaskStatus[Worker],
    ) -> None:
        try:
            with scope:
                await flowq.run(app, task_status=task_status, **options)
        finally:
            self._ended.add(scope)

    def cancel(self, worker: Worker) -> None:
        """Cancel the scope around a worker, as an embedding program would."""
        self._scopes[worker].cancel()

    def has_ended(self, worker: Worker) -> bool:
        return self._scopes[worker] in self._ended

    def said(self, event: str) -> list[logging.LogRecord]:
        """The records of an event so far."""
        return [record for record in self._caplog.records if getattr(record, "event", "") == event]

    def key(self, tail: str) -> str:
        return f"flowq:{{{self.name}}}:{tail}"

    def end_quarantine(self) -> None:
        """Let limited tasks start now, in tests that are not about the quarantine that every unknown server costs: one lease."""
        with parse_url(self.url).sync_client() as client:
            client.hdel(self.key("clock"), "q")


class HasURL(Protocol):
    """A server, whichever fixture made it."""

    @property
    def url(self) -> str: ...


@asynccontextmanager
async def open_shop(server: HasURL, name: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Shop]:
    """A shop whose workers are cancelled when the block ends."""
    caplog.set_level(logging.INFO, logger="flowq")
    async with anyio.create_task_group() as tasks:
        yield Shop(tasks, server.url, name, caplog)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def shop(
    anyio_backend: object, redis_server: RedisServer, app_name: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Shop]:
    """A shop on the run's server; the leak check of ``tests/conftest.py`` looks after it."""
    async with open_shop(redis_server, app_name, caplog) as opened:
        yield opened


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that this test may stop, flush or fill."""
    with running_redis() as server:
        yield server


@pytest.fixture
def stopped() -> Iterator[Callable[[RedisServer], None]]:
    """SIGSTOP a server; it goes on after the test in any case."""
    with ExitStack() as stack:

        def stop(server: RedisServer) -> None:
            stack.callback(server.process.send_signal, 18)
            server.process.send_signal(19)

        yield stop


@pytest.fixture
async def own_shop(
    anyio_backend: object, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Shop]:
    """A shop on a server of this test's own. Look after leaks with ``left_behind``."""
    async with open_shop(own_server, "own", caplog) as opened:
        yield opened


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    """The test's own look at ``own_server``."""
    with own_server.client() as found:
        yield found


def left_behind(server: RedisServer, name: str) -> list[str]:
    """Keys of the app that should not be there when no job is outstanding and no worker is left."""
    with server.client() as client:
        return leaks(client, name)


async def until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> None:
    """Wait for what has no event to wait for."""
    with anyio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - a fact in the server or in the code under test
            await anyio.sleep(0.005)
        return
    raise AssertionError(f"not seen within {seconds:g} s: {what}")
