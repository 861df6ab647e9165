# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis==3.5.0", "uvloop==0.23.0"]
# [tool.bench]
# docs = [
#   "https://taskiq-python.github.io/guide/cli.html: --workers 1, --max-async-tasks 100 and --max-prefetch 0 are its defaults; uvloop is taken where it is installed",
#   "https://github.com/taskiq-python/taskiq-redis: RedisStreamBroker, the one whose jobs are acknowledged; without a result backend nothing is kept",
# ]
# note = "A job counts as acknowledged when its result is saved (the default), as those of the others after the body."
# queued = "XLEN taskiq"
# wide = { by = "tasks" }
# [tool.bench.contestants]
# "uvloop" = { loop = "uvloop" }
# [[tool.bench.settings]]
# tasks = 100
# [[tool.bench.settings]]
# tasks = 500
# prefetch = 500
# count = 500
# [[tool.bench.settings]]
# tasks = 1000
# count = 100
# ///
"""taskiq on Redis Streams (taskiq-redis)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import adapter
from evidence import SETTINGS, registered
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(
    SETTINGS.get("url", "redis://"), consumer_id="0", xread_count=SETTINGS.get("count", 100)
)

TASKS = registered(lambda name, body: broker.task(task_name=name)(body))


class Producer(adapter.Producer):
    async def one(self, body: str, *args: Any) -> None:
        await TASKS[body].kiq(*args)


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    await broker.startup()
    yield Producer()
    await broker.shutdown()


def work() -> None:
    given = SETTINGS
    adapter.exec_here(
        "taskiq", "worker", "peer_taskiq:broker", "--workers", "1", "--max-async-tasks", str(given["tasks"]),
        "--max-prefetch", str(given.get("prefetch", 0)), "--log-level", "WARNING",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, opened=opened)
