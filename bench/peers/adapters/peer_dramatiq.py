# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq[redis]==2.2.1", "hiredis==3.5.0"]
# [tool.bench]
# docs = [
#   "https://dramatiq.io/guide.html: processes and threads are the two knobs (8 threads a process by default); no result backend, so no results",
#   "https://dramatiq.io/advanced.html: dramatiq_queue_prefetch",
# ]
# note = "Sync bodies in threads, which is what it is made for."
# queued = "LLEN dramatiq:default"
# wide = { by = "threads" }
# [tool.bench.contestants]
# "threads" = {}
# [[tool.bench.settings]]
# threads = 8
# [[tool.bench.settings]]
# threads = 8
# prefetch = 100
# [[tool.bench.settings]]
# threads = 2
# prefetch = 100
# ///
"""dramatiq on Redis: lists, Lua and threads."""

from __future__ import annotations

import os
from typing import Any

import adapter
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from evidence import BODIES_IN_THREADS, SETTINGS, registered

dramatiq.set_broker(RedisBroker(url=SETTINGS.get("url", "redis://")))

TASKS = registered(lambda name, body: dramatiq.actor(body, actor_name=name), BODIES_IN_THREADS)


class Producer(adapter.BlockingProducer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].send(*args)


def work() -> None:
    given = SETTINGS
    if "prefetch" in given:
        os.environ["dramatiq_queue_prefetch"] = str(given["prefetch"])  # noqa: SIM112 - its own name
    adapter.exec_here(
        "dramatiq", "peer_dramatiq", "--processes", "1", "--threads", str(given["threads"]), "--skip-logging"
    )


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
