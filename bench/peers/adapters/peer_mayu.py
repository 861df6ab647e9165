# /// script
# requires-python = ">=3.13"
# dependencies = ["mayu==0.2.5"]
# [tool.bench]
# docs = [
#   "https://github.com/Siddid-Soni/mayu/blob/main/README.md: process mode with the GIL; no result_ttl, so no results; --prefetch-multiplier 2 by default",
# ]
# note = "Sync bodies, as in its own benches; its thread mode is for free-threaded Python, which this machine has not."
# queued = "XLEN mayu:{default}:stream"
# wide = { by = "threads", mode = "thread" }
# [tool.bench.contestants]
# "threads" = {}
# [[tool.bench.settings]]
# threads = 1
# prefetch = 2
# mode = "process"
# [[tool.bench.settings]]
# threads = 1
# prefetch = 256
# mode = "process"
# [[tool.bench.settings]]
# threads = 8
# prefetch = 64
# mode = "thread"
# ///
"""mayu: a Rust core that hands jobs to threads of Python."""

from __future__ import annotations

from typing import Any

import adapter
from evidence import BODIES_IN_THREADS, SETTINGS, registered
from mayu import App

app = App(broker=SETTINGS.get("url", "redis://"))

TASKS = registered(lambda name, body: app.task(name=name)(body), BODIES_IN_THREADS)


class Producer(adapter.BlockingProducer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].send(*args)


def work() -> None:
    given = SETTINGS
    adapter.exec_here(
        "mayu", "worker", "peer_mayu:app", "--mode", given["mode"], "--processes", "1",
        "--threads", str(given["threads"]), "--prefetch-multiplier", str(given["prefetch"]), "--log-level", "WARNING",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
