"""What every Python adapter has in common: how it produces, and the commands that the harness gives.

It runs in a peer's own environment, so it knows only the standard library. The harness calls ``python peer_NAME.py COMMAND
[ARGUMENTS]``, and says everything else in ``BENCH_…`` variables, as a peer's command line imports the adapter by its name.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from evidence import SETTINGS, sleep

BULK = 500
"""Jobs in one bulk call, as in ``bench/enqueue.py``."""
CALLERS = 100
"""Who enqueue at once, of workload (b)."""
TICK = 0.01
"""Seconds between two of ``feed``'s calls."""

Arguments = tuple[Any, ...]


class Stop:
    """After so many jobs or so many seconds."""

    def __init__(self, jobs: int | None, seconds: float | None) -> None:
        self.left = jobs if jobs is not None else 1 << 60
        self.until = time.monotonic() + seconds if seconds is not None else float("inf")

    def take(self, most: int) -> int:
        """How many the caller may store now; 0: none any more."""
        if time.monotonic() >= self.until:
            return 0
        taken = min(most, self.left)
        self.left -= taken
        return taken


class Producer(ABC):
    """Stores jobs by calls that are awaited; each returns when the job is durable as far as the peer promises it."""

    many: Callable[[str, Sequence[Arguments]], Awaitable[Any]] | None = None
    """Store several in one call, if the peer has such a call."""

    @abstractmethod
    async def one(self, body: str, *args: Any) -> None:
        """Store one job of a body that ``evidence`` names."""

    async def together(self, stop: Stop, body: str, args: Arguments) -> int:
        """Store by ``CALLERS`` tasks at once; how many they were."""
        stored = 0

        async def caller() -> None:
            nonlocal stored
            # two lines: `stored += await …` reads the sum before the wait, and loses what others add meanwhile
            mine = await self.back_to_back(stop, body, args)
            stored += mine

        if SETTINGS.get("loop") == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for _ in range(CALLERS):
                    nursery.start_soon(caller)
        else:
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return stored

    async def back_to_back(self, stop: Stop, body: str, args: Arguments) -> int:
        """Store one after the other; how many they were."""
        stored = 0
        while stop.take(1):
            await self.one(body, *args)
            stored += 1
        return stored

    async def bulk(self, stop: Stop, body: str, args: Arguments) -> int:
        """Store in the largest way that the peer has: without a bulk call that is by many callers."""
        if self.many is None:
            return await self.together(stop, body, args)
        stored = 0
        while taken := stop.take(BULK):
            await self.many(body, [args] * taken)
            stored += taken
        return stored

    async def pause(self, seconds: float) -> None:
        await sleep(seconds)


class BlockingProducer(ABC):
    """The same of a peer whose calls block."""

    many: Callable[[str, Sequence[Arguments]], Any] | None = None

    @abstractmethod
    def one(self, body: str, *args: Any) -> Any:
        """Store one job of a body that ``evidence`` names."""


class InThreads(Producer):
    """A blocking producer behind the awaited face: nothing in it ever suspends, so it needs no loop (``run_without_loop``)."""

    def __init__(self, peer: BlockingProducer) -> None:
        self.peer = peer

    async def one(self, body: str, *args: Any) -> None:
        self.peer.one(body, *args)

    async def together(self, stop: Stop, body: str, args: Arguments) -> int:
        """By ``CALLERS`` threads."""
        lock = threading.Lock()

        def caller(_: int) -> int:
            stored = 0
            while True:
                with lock:
                    if not stop.take(1):
                        return stored
                self.peer.one(body, *args)
                stored += 1

        with ThreadPoolExecutor(CALLERS) as pool:
            return sum(pool.map(caller, range(CALLERS)))

    async def bulk(self, stop: Stop, body: str, args: Arguments) -> int:
        """Without a bulk call one thread stores: more of them only take turns with the GIL."""
        if self.peer.many is None:
            return await self.back_to_back(stop, body, args)
        stored = 0
        while taken := stop.take(BULK):
            self.peer.many(body, [args] * taken)
            stored += taken
        return stored

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no loop is there that it could block


async def store(producer: Producer, order: dict[str, Any]) -> dict[str, Any]:
    """As many jobs, or for as many seconds, as the order says."""
    stop = Stop(order.get("jobs"), order.get("seconds"))
    ways = {"one": producer.back_to_back, "concurrent": producer.together, "bulk": producer.bulk}
    began = time.monotonic()
    stored = await ways[order["way"]](stop, order.get("body", "noop"), tuple(order.get("args", ())))
    return {"jobs": stored, "seconds": time.monotonic() - began}


async def feed(producer: Producer, order: dict[str, Any]) -> dict[str, Any]:
    """No-op jobs at a steady rate, and one probe each tick. Rate 0: probes alone, one each 25 ms."""
    rate, seconds = order["rate"], order["seconds"]
    tick = TICK if rate else 0.025
    began = time.monotonic()
    stored = probes = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - stored
        if due > 0:
            stored += await producer.bulk(Stop(min(due, 5000), None), "noop", ())
        await producer.one("probe", time.monotonic())
        probes += 1
        await producer.pause(max(0.0, began + probes * tick - time.monotonic()))
    return {"jobs": stored, "probes": probes, "seconds": time.monotonic() - began}


async def numbered(producer: Producer, order: dict[str, Any]) -> dict[str, Any]:
    """So many jobs of a body that is given its number and how long it lasts."""
    for number in range(order["jobs"]):
        await producer.one(order["body"], number, order["seconds"])
    return {"jobs": order["jobs"]}


COMMANDS = {"enqueue": store, "feed": feed, "number": numbered}


async def _obey(opened: AbstractAsyncContextManager[Producer]) -> dict[str, Any]:
    async with opened as producer:
        return await COMMANDS[sys.argv[1]](producer, json.loads(sys.argv[2]))


@asynccontextmanager
async def _in_threads(blocking: Callable[[], BlockingProducer]) -> AsyncIterator[Producer]:
    yield InThreads(blocking())


def run_async(main: Callable[[], Awaitable[Any]]) -> Any:
    """On the loop that the settings name: asyncio, uvloop under it, or trio."""

    async def whole() -> Any:
        return await main()

    if SETTINGS.get("loop") == "trio":
        import trio

        return trio.run(whole)
    if SETTINGS.get("loop") == "uvloop":
        import uvloop

        return uvloop.run(whole())
    return asyncio.run(whole())


def run_without_loop(whole: Coroutine[Any, Any, Any]) -> Any:
    """For what never suspends. A peer whose calls block may refuse to be called where a loop runs."""
    try:
        whole.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a blocking producer has suspended")


def exec_here(program: str, *arguments: str) -> None:
    """Become a program of this environment, as a user would start it from here."""
    path = Path(sys.executable).with_name(program)
    os.chdir(Path(__file__).parent)
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(path, [str(path), *arguments])


def main(
    work: Callable[[], Any],
    *,
    opened: Callable[[], AbstractAsyncContextManager[Producer]] | None = None,
    blocking: Callable[[], BlockingProducer] | None = None,
) -> None:
    """What an adapter runs: ``work``, or one of ``COMMANDS`` with an order, which print what they did, as JSON.

    Args:
        work: run a worker until it is told to stop by a signal.
        opened: the producer of a peer whose calls are awaited.
        blocking: the producer of a peer whose calls block.
    """
    if sys.argv[1] == "work":
        work()
        return
    if opened is not None:
        said = run_async(lambda: _obey(opened()))
    else:
        assert blocking is not None
        said = run_without_loop(_obey(_in_threads(blocking)))
    print(json.dumps(said), flush=True)
