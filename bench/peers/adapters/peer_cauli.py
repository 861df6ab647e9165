# /// script
# requires-python = ">=3.11"
# dependencies = ["cauli==0.1.0", "uvloop==0.23.0", "hiredis==3.5.0"]
# [tool.bench]
# docs = [
#   "https://github.com/bilalwork31-cyber/Cauli/blob/main/docs/CONFIGURATION.md: --io-concurrency 64 to 128 a process; CAULI_LOOP: uvloop when importable",
#   "https://github.com/bilalwork31-cyber/Cauli/blob/main/bench/README.md: store_result=False in its own no-op runs",
# ]
# queued = "XLEN cauli:q:default"
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

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import adapter
from cauli import AsyncCauli

app = AsyncCauli(redis_url=adapter.SETTINGS.get("url", "redis://"), default_queue="default")


@app.task(name="noop", store_result=False)
async def noop() -> None:
    adapter.noop()


@app.task(name="probe", store_result=False)
async def probe(sent: float) -> None:
    adapter.probe(sent)


@app.task(name="hold", store_result=False)
async def hold(number: int, seconds: float) -> None:
    adapter.hold(number)
    await asyncio.sleep(seconds)


TASKS = {"noop": noop, "probe": probe, "hold": hold}


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
    os.environ["CAULI_LOOP"] = adapter.SETTINGS["loop"]
    slots = str(adapter.SETTINGS["concurrency"])
    adapter.exec_here(
        "cauli-worker", "-A", "peer_cauli:app", "--procs", "1", "--io-concurrency", slots,
        "--redis-url", adapter.SETTINGS["url"], "--log-level", "warn",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, opened=opened)
