"""Version N and N+1 of one app, each as a worker and as a producer: what a deploy has side by side for a while.

Usage: ``python -m tests.crash.release VERSION worker BACKEND`` or ``… VERSION producer``, VERSION ``old`` or ``new``. Both end in order on
SIGTERM. What the new one has: an argument with a default, another limit, a new task, and jobs in a newer format (simulated: its
flowq writes and reads ``"v":2`` besides). What does not fit is tried elsewhere after a second instead of up to a minute.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys

import anyio

import flowq
from flowq import _codec, _task
from flowq._core import retry
from tests.crash.witness import note

BODIES, SUBMITTED = os.environ.get("FLOWQ_BODIES", os.devnull), os.environ.get("FLOWQ_SUBMITTED", os.devnull)
NEW_FROM = 100_000
"""Numbers of the new version's jobs begin here."""

old = flowq.App("release", lease_ttl=2.0)
new = flowq.App("release", lease_ttl=2.0)


async def body(task: str, number: int, seconds: float) -> None:
    note(BODIES, "start", task, number)
    finished = "cut"
    try:
        await anyio.sleep(seconds)
        finished = "done"
    finally:
        note(BODIES, finished, task, number)


@old.task(name="resize", limit=2)
async def old_resize(number: int) -> None:
    await body("resize", number, 0.02)


@old.task(name="email")
async def old_email(number: int) -> None:
    await body("email", number, 0.01)


@new.task(name="resize", limit=4)
async def new_resize(number: int, width: int = 0) -> None:
    assert width == (80 if number >= NEW_FROM else 0)
    await body("resize", number, 0.02)


@new.task(name="email")
async def new_email(number: int) -> None:
    await body("email", number, 0.01)


@new.task
async def render(number: int) -> None:
    await body("render", number, 0.01)


async def produce(version: str) -> None:
    """Submit until told to stop; what was accepted is written down."""
    app = old if version == "old" else new
    number = 0 if version == "old" else NEW_FROM
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with app, anyio.create_task_group() as tasks:

            async def stop() -> None:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(stop)
            while True:
                with anyio.CancelScope(shield=True):
                    for name, args, form in jobs_of(version, number):
                        _task.FORMAT = form
                        await app.tasks[name].enqueue(*args)
                        note(SUBMITTED, "stored", name, args[0])
                number += 1
                await anyio.sleep(0.02)


def jobs_of(version: str, number: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Task, arguments and format of what a version submits in one go."""
    if version == "old":
        return [("resize", (number,), 1), ("email", (number,), 1)]
    return [("resize", (number, 80), 1), ("email", (number,), 2), ("render", (number,), 1)]


def main(version: str, what: str, backend: str = "trio") -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {version} %(process)d %(name)s %(message)s")
    retry.SKEW_SHORTEST, retry.SKEW_LONGEST = 0.2, 1.0
    if version == "new":
        _codec.FORMAT = 2
    if what == "producer":
        anyio.run(produce, version)
    else:
        serve = functools.partial(
            flowq.run, old if version == "old" else new, concurrency=8, handle_signals=True
        )
        anyio.run(serve, backend=backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
