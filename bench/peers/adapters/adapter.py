"""What every Python adapter has in common: settings, the bodies' evidence, and the commands that the harness gives.

It runs in a peer's own environment, so it knows only the standard library. The harness calls ``python peer_NAME.py COMMAND
[ARGUMENTS]``, and says everything else in ``BENCH_…`` variables, as a peer's command line imports the adapter by its name.

Evidence is what bodies write themselves, never what a queue says of itself: each thread that runs bodies has a file of three
float64 (first body, bodies, last body; monotonic seconds), mapped into memory so that a body costs no system call.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

BULK = 500
"""Jobs in one bulk call, as in ``bench/enqueue.py``."""
CALLERS = 100
"""Who enqueue at once, of workload (b)."""
TICK = 0.01
"""Seconds between two of ``feed``'s calls."""

SETTINGS: dict[str, Any] = json.loads(os.environ.get("BENCH_SETTINGS", "{}"))
"""The contestant's options, those of its settings, ``url``, ``host`` and ``port``."""

_own = threading.local()
_marks = -1


def noop() -> None:
    """A body's evidence that it ran."""
    try:
        cells = _own.cells
    except AttributeError:
        cells = _open_tally()
    cells[1] += 1.0
    cells[2] = time.monotonic()


def probe(sent: float) -> None:
    """A body's evidence of when it ran: seconds since ``sent``."""
    mark(f"probe {time.monotonic() - sent:.6f}")


def hold(number: int) -> None:
    """A body's evidence that it has begun."""
    mark(f"hold {number}")


def mark(text: str) -> None:
    """Append the monotonic time, this process's id and ``text`` to a file that all processes share."""
    global _marks  # noqa: PLW0603 - opened once a process, so that a mark costs one write
    if _marks < 0:
        path = Path(os.environ["BENCH_EVIDENCE"]) / "marks"
        _marks = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_marks, f"{time.monotonic():.6f} {os.getpid()} {text}\n".encode())


def _open_tally() -> memoryview:
    name = f"tally-{os.environ['BENCH_WORKER']}-{os.getpid()}-{threading.get_ident()}"
    path = Path(os.environ["BENCH_EVIDENCE"]) / name
    path.write_bytes(bytes(24))
    with path.open("r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 24)).cast("d")
    cells[0] = time.monotonic()
    _own.cells = cells
    return cells


class Producer:
    """Stores jobs. ``one`` returns when the job is durable as far as the peer promises it; an async peer's are async."""

    one: Callable[..., Any]
    """``one(body, *args)`` stores one job of ``noop``, ``probe`` or ``hold``; each adapter has it."""
    many: Callable[[str, Sequence[tuple[Any, ...]]], Any] | None = None
    """Store several in one call, if the peer has such a call."""


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


async def store(producer: Producer, way: str, stop: Stop, body: str, args: tuple[Any, ...]) -> int:
    """By an async producer. A peer without a bulk call is given ``CALLERS`` callers instead."""
    stored = 0

    async def caller() -> None:
        nonlocal stored
        while stop.take(1):
            await producer.one(body, *args)
            stored += 1

    if way == "bulk" and producer.many is not None:
        while taken := stop.take(BULK):
            await producer.many(body, [args] * taken)
            stored += taken
    elif way == "one":
        await caller()
    else:
        await together(caller)
    return stored


async def together(caller: Callable[[], Awaitable[None]]) -> None:
    """``CALLERS`` tasks of the loop that the settings name."""
    if SETTINGS.get("loop") == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller)
    else:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def pause(seconds: float) -> None:
    """On either loop."""
    if SETTINGS.get("loop") == "trio":
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def store_in_threads(producer: Producer, way: str, stop: Stop, body: str, args: tuple[Any, ...]) -> int:
    """By a producer whose calls block."""
    lock = threading.Lock()

    def caller(_: int = 0) -> int:
        stored = 0
        while True:
            with lock:
                if not stop.take(1):
                    return stored
            producer.one(body, *args)
            stored += 1

    if way == "concurrent":
        with ThreadPoolExecutor(CALLERS) as pool:
            return sum(pool.map(caller, range(CALLERS)))
    if way == "bulk" and producer.many is not None:
        stored = 0
        while taken := stop.take(BULK):
            producer.many(body, [args] * taken)
            stored += taken
        return stored
    return caller()


async def feed(producer: Producer, rate: float, seconds: float) -> dict[str, Any]:
    """No-op jobs at a steady rate, and one probe each tick. Rate 0: probes alone, one each 25 ms."""
    tick = TICK if rate else 0.025
    began = time.monotonic()
    stored = probes = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - stored
        if due > 0:
            stored += await store(producer, "bulk", Stop(min(due, 5000), None), "noop", ())
        await producer.one("probe", time.monotonic())
        probes += 1
        await pause(max(0.0, began + probes * tick - time.monotonic()))
    return {"jobs": stored, "probes": probes, "seconds": time.monotonic() - began}


def feed_by_blocking(producer: Producer, rate: float, seconds: float) -> dict[str, Any]:
    """The same, by calls that block."""
    tick = TICK if rate else 0.025
    began = time.monotonic()
    stored = probes = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(rate * passed) - stored
        if due > 0:
            stored += store_in_threads(producer, "bulk", Stop(min(due, 5000), None), "noop", ())
        producer.one("probe", time.monotonic())
        probes += 1
        time.sleep(max(0.0, began + probes * tick - time.monotonic()))
    return {"jobs": stored, "probes": probes, "seconds": time.monotonic() - began}


def _asked(order: dict[str, Any]) -> tuple[str, Stop, str, tuple[Any, ...]]:
    stop = Stop(order.get("jobs"), order.get("seconds"))
    return order["way"], stop, order.get("body", "noop"), tuple(order.get("args", ()))


async def _produce(
    opened: AbstractAsyncContextManager[Producer], command: str, order: dict[str, Any]
) -> dict[str, Any]:
    async with opened as producer:
        if command == "feed":
            return await feed(producer, order["rate"], order["seconds"])
        if command == "hold":
            for number in range(order["jobs"]):
                await producer.one("hold", number, order["seconds"])
            return {"jobs": order["jobs"]}
        began = time.monotonic()
        stored = await store(producer, *_asked(order))
        return {"jobs": stored, "seconds": time.monotonic() - began}


def _produce_by_blocking(producer: Producer, command: str, order: dict[str, Any]) -> dict[str, Any]:
    if command == "feed":
        return feed_by_blocking(producer, order["rate"], order["seconds"])
    if command == "hold":
        for number in range(order["jobs"]):
            producer.one("hold", number, order["seconds"])
        return {"jobs": order["jobs"]}
    began = time.monotonic()
    stored = store_in_threads(producer, *_asked(order))
    return {"jobs": stored, "seconds": time.monotonic() - began}


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
    blocking: Callable[[], Producer] | None = None,
) -> None:
    """What an adapter runs: ``work``, or ``enqueue``, ``feed`` or ``hold`` with an order, which print what they did, as JSON.

    Args:
        work: run a worker until it is told to stop by a signal.
        opened: the producer of an async peer.
        blocking: the producer of a peer whose calls block.
    """
    command = sys.argv[1]
    if command == "work":
        work()
        return
    order = json.loads(sys.argv[2])
    if opened is not None:
        said = run_async(lambda: _produce(opened(), command, order))
    else:
        assert blocking is not None
        said = _produce_by_blocking(blocking(), command, order)
    print(json.dumps(said), flush=True)
