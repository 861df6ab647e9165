# /// script
# requires-python = ">=3.11"
# dependencies = ["cauli==0.1.0", "uvloop==0.23.0", "hiredis==3.5.0"]
# [tool.bench]
# docs = [
#   "https://github.com/bilalwork31-cyber/Cauli/blob/main/docs/CONFIGURATION.md: --io-concurrency 64 to 128 a process; CAULI_LOOP: uvloop when importable",
#   "https://github.com/bilalwork31-cyber/Cauli/blob/main/bench/README.md: store_result=False in its own no-op runs",
# ]
# queued = "XLEN cauli:q:default"
# wide = { by = "concurrency" }
# [tool.bench.contestants]
# "uvloop" = { loop = "uvloop" }
# "asyncio" = { loop = "asyncio" }
# [[tool.bench.settings]]
# concurrency = 128
# [[tool.bench.settings]]
# concurrency = 256
# [[tool.bench.settings]]
# concurrency = 64
# ///
"""cauli: a Rust worker that embeds CPython; its own program runs it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import adapter
from cauli import AsyncCauli
from evidence import SETTINGS, registered

app = AsyncCauli(redis_url=SETTINGS.get("url", "redis://"), default_queue="default")

TASKS = registered(lambda name, body: app.task(name=name, store_result=False)(body))


class Producer(adapter.Producer):
    async def one(self, body: str, *args: Any) -> None:
        await TASKS[body].adelay(*args)

    async def many(self, body: str, args: Sequence[tuple[Any, ...]]) -> None:
        await app.aenqueue_many([(TASKS[body], one) for one in args])


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    yield Producer()
    await app.aclose()


def work() -> None:
    os.environ["CAULI_LOOP"] = SETTINGS["loop"]
    slots = str(SETTINGS["concurrency"])
    adapter.exec_here(
        "cauli-worker", "-A", "peer_cauli:app", "--procs", "1", "--io-concurrency", slots,
        "--redis-url", SETTINGS["url"], "--log-level", "warn",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, opened=opened)
