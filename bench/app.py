"""The app whose worker processes the benches start: bodies mark what they do (``BENCH_MARKS``)."""

from __future__ import annotations

import os
import time

import anyio

import flowq
from bench.marks import mark

app = flowq.App(
    os.environ.get("BENCH_APP", "bench"), lease_ttl=float(os.environ.get("BENCH_TTL", "10")), results=False
)


@app.task(limit=3)
async def wait(number: int, seconds: float) -> None:
    """A limited body that waits."""
    mark("start", number)
    await anyio.sleep(seconds)
    mark("end", number)


@app.task(limit=1)
async def alone(number: int, seconds: float) -> None:
    """As ``wait``, one at a time in the whole fleet."""
    mark("start", number)
    await anyio.sleep(seconds)
    mark("end", number)


@app.task(limit=1, max_crashes=None)
async def hold(number: int) -> None:
    """A limited body that never ends by itself."""
    mark("hold", number)
    await anyio.sleep_forever()


@app.task
async def first_line(number: int, sent: float) -> None:
    """Marks its own first line, beside when it was submitted."""
    mark("first", number, sent)


@app.task
async def compute(number: int, seconds: float) -> None:
    """CPU work of a fixed amount."""
    mark("start", number)
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    mark("end", number)
