# /// script
# requires-python = ">=3.11"
# dependencies = ["tarsk-redis==0.2.1"]
# [tool.bench]
# docs = [
#   "https://rahmadafandi.github.io/tarsk/operating: --children is the number of Python processes, --slots (100) the jobs in flight in each; results are off unless a task sets result_ttl",
# ]
# queued = "XLEN tarsk:default"
# [tool.bench.contestants]
# "asyncio" = {}
# [[tool.bench.settings]]
# slots = 100
# [[tool.bench.settings]]
# slots = 500
# [[tool.bench.settings]]
# slots = 20
# ///
"""tarsk: a supervisor in Rust, which feeds one child process of Python for each worker here."""

from __future__ import annotations

import asyncio
from typing import Any

import adapter
from tarsk import App

app = App(broker=adapter.SETTINGS.get("url"))


@app.task(name="noop")
async def noop() -> None:
    adapter.noop()


@app.task(name="probe")
async def probe(sent: float) -> None:
    adapter.probe(sent)


@app.task(name="hold")
async def hold(number: int, seconds: float) -> None:
    adapter.hold(number)
    await asyncio.sleep(seconds)


TASKS: dict[str, Any] = {"noop": noop, "probe": probe, "hold": hold}


class Producer(adapter.Producer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].send(*args)


def work() -> None:
    given = adapter.SETTINGS
    adapter.exec_here(
        "tarsk", "worker", "--app", "peer_tarsk:app", "--broker", given["url"], "--queues", "default",
        "--children", "1", "--slots", str(given["slots"]),
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
