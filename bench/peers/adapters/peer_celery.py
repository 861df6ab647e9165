# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.0", "hiredis==3.5.0"]
# [tool.bench]
# docs = [
#   "https://docs.celeryq.dev/en/stable/userguide/optimizing.html: worker_prefetch_multiplier 64 or 128 for short tasks, transient queues, ignore_result",
#   "https://docs.celeryq.dev/en/stable/userguide/configuration.html: task_acks_late, so that jobs are acknowledged after the body as the others' are",
# ]
# note = "prefork runs bodies in one child beside the main process; solo and threads run them in the main process."
# queued = "LLEN celery"
# [tool.bench.contestants]
# "" = {}
# [[tool.bench.settings]]
# pool = "prefork"
# concurrency = 1
# multiplier = 128
# [[tool.bench.settings]]
# pool = "solo"
# concurrency = 1
# multiplier = 128
# [[tool.bench.settings]]
# pool = "threads"
# concurrency = 8
# multiplier = 128
# ///
"""Celery on Redis. Events, gossip, mingle and heartbeats are off, as its page on optimising has it."""

from __future__ import annotations

import os
import time
from typing import Any

import adapter
from celery import Celery

app = Celery("peer_celery", broker=adapter.SETTINGS.get("url"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=adapter.SETTINGS.get("multiplier", 128),
    task_default_delivery_mode="transient",
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop() -> None:
    adapter.noop()


@app.task(name="probe")
def probe(sent: float) -> None:
    adapter.probe(sent)


@app.task(name="hold")
def hold(number: int, seconds: float) -> None:
    adapter.hold(number)
    time.sleep(seconds)


TASKS: dict[str, Any] = {"noop": noop, "probe": probe, "hold": hold}


class Producer(adapter.Producer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].delay(*args)


def work() -> None:
    given = adapter.SETTINGS
    adapter.exec_here(
        "celery", "-A", "peer_celery", "worker", "--pool", given["pool"], "--concurrency", str(given["concurrency"]),
        "--hostname", f"w{os.environ['BENCH_WORKER']}@bench",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
