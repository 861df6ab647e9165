"""One worker process of ``bench.app``, as a user's own program runs it.

Usage: ``python -m bench.worker BACKEND CONCURRENCY``. SIGTERM cancels the nursery around ``flowq.run``; the seconds until ``flowq.run`` has returned are printed then.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial

import anyio
from anyio.abc import TaskStatus

import flowq
from bench.app import app


async def embedded(concurrency: int) -> None:
    """A worker in a nursery beside other code, which ends when the nursery is cancelled."""
    began = 0.0
    async with anyio.create_task_group() as outer:

        async def cancel_on_signal(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
            nonlocal began
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    break
            began = time.perf_counter()
            worker.cancel()

        await outer.start(cancel_on_signal)
        with anyio.CancelScope() as worker:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(flowq.run, app, concurrency=concurrency))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    anyio.run(embedded, int(sys.argv[2]), backend=sys.argv[1])
