# /// script
# requires-python = ">=3.11"
# dependencies = ["tarsk-redis==0.2.1"]
# [tool.bench]
# docs = [
#   "https://rahmadafandi.github.io/tarsk/operating: --children is the number of Python processes, --slots (100) the jobs in flight in each; results are off unless a task sets result_ttl",
# ]
# queued = "XLEN tarsk:default"
# wide = { by = "slots" }
# limits = true
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

from typing import Any

import adapter
from evidence import SETTINGS, registered
from tarsk import App

app = App(broker=SETTINGS.get("url"))


def task_of(name: str, body: Any) -> Any:
    """(e) limits one of them; 0 is its own word for none."""
    limit = SETTINGS.get("limit", 0) if name == "scarce" else 0
    return app.task(name=name, max_concurrency=limit)(body)


TASKS = registered(task_of)


class Producer(adapter.BlockingProducer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].send(*args)


def work() -> None:
    given = SETTINGS
    adapter.exec_here(
        "tarsk", "worker", "--app", "peer_tarsk:app", "--broker", given["url"], "--queues", "default",
        "--children", "1", "--slots", str(given["slots"]),
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
