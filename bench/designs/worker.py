"""One worker process of one design: ``python -m bench.designs.worker NAME BACKEND INDEX SLOTS RECOVERS`` (``DESIGNS_URL``, ``BENCH_MARKS``).

It marks ``up`` when it is ready. SIGUSR1: it marks its CPU time and its counts. SIGUSR2: it pauses, or goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial

import anyio

from bench.designs.candidates import DESIGNS
from bench.designs.design import Design, open_link
from bench.marks import mark


async def work(name: str, index: int, slots: int, recovers: bool) -> None:
    """Until the process is killed."""
    async with open_link(os.environ["DESIGNS_URL"]) as link:
        design = DESIGNS[name].make(link, f"w{index}", slots=slots, recovers=recovers)
        async with anyio.create_task_group() as tasks:
            await tasks.start(design.work)
            with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
                mark("up", index)
                async for got in signals:
                    heed(got, design, index)


def heed(got: signal.Signals, design: Design, index: int) -> None:
    """Do what the harness's signal asks for."""
    if got == signal.SIGUSR2:
        design.pause(not design.paused)
    mark("stat", index, time.process_time(), design.attempts, design.empty)


if __name__ == "__main__":
    name, backend, index, slots, recovers = sys.argv[1:6]
    anyio.run(partial(work, name, int(index), int(slots), recovers == "1"), backend=backend)
