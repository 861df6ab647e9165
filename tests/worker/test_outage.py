"""Redis away: stopped, or ended and started again over its data. Intake waits, bodies go on as long as their lease allows, and
everything resumes by itself.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

import flowq
from tests.conftest import RedisServer, running_redis
from tests.worker.conftest import TTL, Shop, Witness, left_behind, open_shop, until


class Away:
    """A server that can be away and come back with its data and its address."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._options = ("--unixsocket", str(folder / "s"), "--appendonly", "yes", "--appendfsync", "always")
        (folder / "data").mkdir()
        self.server = self._start()

    def _start(self) -> RedisServer:
        return self._stack.enter_context(running_redis(*self._options, folder=self._folder / "data"))

    def go(self, how: str) -> None:
        if how == "stop":
            self.server.process.send_signal(signal.SIGSTOP)
            self._stack.callback(self.server.process.send_signal, signal.SIGCONT)
        else:
            self.server.process.kill()
            self.server.process.wait()

    def come_back(self, how: str) -> None:
        if how == "stop":
            self.server.process.send_signal(signal.SIGCONT)
        else:
            self.server = self._start()


@pytest.fixture
def away() -> Iterator[Away]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp"))
        yield Away(stack, Path(folder))


@pytest.fixture
async def own_shop(
    anyio_backend: object, away: Away, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Shop]:
    async with open_shop(away.server, "own", caplog) as opened:
        yield opened


@pytest.fixture
def seen() -> Witness:
    return Witness()


def with_tasks(shop: Shop, seen: Witness, ttl: float = TTL) -> tuple[flowq.App[Any], Any, Any]:
    app = shop.app(enqueue_timeout=20.0, lease_ttl=ttl)

    @app.task(limit=2, retries=0)
    async def few(number: int, seconds: float) -> int:
        again = any(run.what == number for run in seen.runs)
        return int(await seen.body(number, 0.05 if again else seconds))

    @app.task(retries=0)
    async def many(number: int, seconds: float) -> int:
        return int(await seen.body(number, seconds))

    return app, few, many


HOW = pytest.mark.parametrize("how", ["stop", "restart"])


@HOW
async def test_away_for_longer_than_the_lease(own_shop: Shop, away: Away, seen: Witness, how: str) -> None:
    """Limited bodies are cancelled at the local deadline with reason ``lease_lost`` and run again later; unlimited ones go on and
    their outcomes are written when the server is back; what is submitted meanwhile waits and runs. Who waits for a result waits on.
    """
    app, few, many = with_tasks(own_shop, seen)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    results: list[int] = []

    async def submit_and_wait(task: Any, number: int, seconds: float) -> None:
        job = await task.enqueue(number, seconds)
        results.append(await job.result(timeout=20))

    async with app:
        await (await few.enqueue(0, 0)).result(timeout=10)
        async with anyio.create_task_group() as tasks:
            for number in (1, 2, 3):
                tasks.start_soon(submit_and_wait, few, number, 1.5 * TTL)
            tasks.start_soon(submit_and_wait, many, 10, 1.5 * TTL)
            await until(lambda: seen.running == 3, "two limited and one unlimited run")
            gone = anyio.current_time()
            away.go(how)
            tasks.start_soon(submit_and_wait, many, 11, 0.0)
            await until(lambda: seen.running == 1, "limited bodies are cancelled", 3)
            cancelled = anyio.current_time() - gone
            await until(lambda: seen.running == 0, "the unlimited body ends by itself", 3)
            await anyio.sleep(0.3 * TTL)
            assert (results, len(seen.runs)) == ([], 4)
            away.come_back(how)
    assert sorted(results) == [1, 2, 3, 10, 11]
    print(f"{how}: limited bodies cancelled {cancelled:.3f} s after the fault")  # noqa: T201 -- a figure
    assert cancelled < TTL
    assert [run.reason for run in seen.runs if run.what in (1, 2, 3)] == ["lease_lost"] * 2 + [None] * 3
    assert seen.done() == [0, 1, 2, 3, 10, 11]
    assert own_shop.said("lease.lost")
    await worker.drain()
    assert left_behind(away.server, "own") == []


@HOW
async def test_away_for_less_than_the_lease(own_shop: Shop, away: Away, seen: Witness, how: str) -> None:
    """No body is cancelled, none runs twice, the worker stays the same member, and the outcomes are written when the server is back."""
    app, few, many = with_tasks(own_shop, seen, 2 * TTL)
    worker = await own_shop.start(app)
    own_shop.end_quarantine()
    results: list[int] = []

    async def submit_and_wait(task: Any, number: int, seconds: float) -> None:
        job = await task.enqueue(number, seconds)
        results.append(await job.result(timeout=20))

    async with app:
        await (await few.enqueue(0, 0)).result(timeout=10)
        member = worker.id
        async with anyio.create_task_group() as tasks:
            for task, number in ((few, 1), (few, 2), (many, 10)):
                tasks.start_soon(submit_and_wait, task, number, 0.5 * TTL)
            await until(lambda: seen.running == 3, "all run")
            away.go(how)
            await anyio.sleep(0.3 * TTL)
            away.come_back(how)
    assert sorted(results) == [1, 2, 10]
    assert worker.id == member
    assert sorted(run.what for run in seen.runs) == seen.done() == [0, 1, 2, 10]
    assert not own_shop.said("lease.lost")
    await worker.drain()
    assert left_behind(away.server, "own") == []
