"""The app of the crash tests: its bodies write the witness's log (``FLOWQ_WITNESS``)."""

from __future__ import annotations

import os
import signal
import time

import anyio

import flowq
from tests.crash.witness import note

LOG = os.environ.get("FLOWQ_WITNESS", os.devnull)
app = flowq.App("crash", lease_ttl=float(os.environ.get("FLOWQ_TEST_TTL", "2")))


@app.task(limit=3, retries=0)
async def work(number: int, seconds: float = 0.3) -> int:
    """A body of a limited task that waits."""
    note(LOG, "start", "work", number)
    finished = "cut"
    try:
        await anyio.sleep(seconds)
        finished = "done"
    finally:
        note(LOG, finished, "work", number)
    return number


@app.task(retries=0)
async def free(number: int, seconds: float = 0.1) -> int:
    """A body of an unlimited task that waits."""
    note(LOG, "start", "free", number)
    finished = "cut"
    try:
        await anyio.sleep(seconds)
        finished = "done"
    finally:
        note(LOG, finished, "free", number)
    return number


@app.task(limit=3, retries=0)
async def block(number: int, seconds: float) -> int:
    """A body that blocks the event loop."""
    note(LOG, "start", "block", number)
    time.sleep(seconds)  # noqa: ASYNC251 -- that is the point
    note(LOG, "done", "block", number)
    return number


@app.task(retries=0, max_crashes=3)
async def poison(number: int) -> None:
    """A body that takes its worker down."""
    note(LOG, "start", "poison", number)
    await anyio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(limit=1, retries=0)
async def loop_hog(number: int, seconds: float) -> int:
    """Burns the CPU without giving way."""
    note(LOG, "start", "loop_hog", number)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    note(LOG, "done", "loop_hog", number)
    return number


@app.task(retries=0)
async def instant(sent_at: float) -> float:
    """How long after ``sent_at`` (CLOCK_MONOTONIC) the body's first line ran."""
    return time.monotonic() - sent_at


@app.task(retries=0)
async def cpu(number: int, seconds: float = 0.02) -> int:
    """CPU work of a fixed amount."""
    note(LOG, "start", "cpu", number)
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    note(LOG, "done", "cpu", number)
    return number
