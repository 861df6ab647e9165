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
# wide = { by = "concurrency", pool = "threads" }
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
from typing import Any

import adapter
from celery import Celery
from evidence import BODIES_IN_THREADS, SETTINGS, registered

app = Celery("peer_celery", broker=SETTINGS.get("url"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=SETTINGS.get("multiplier", 128),
    task_default_delivery_mode="transient",
    broker_connection_retry_on_startup=True,
)

TASKS = registered(lambda name, body: app.task(name=name)(body), BODIES_IN_THREADS)


class Producer(adapter.BlockingProducer):
    def one(self, body: str, *args: Any) -> None:
        TASKS[body].delay(*args)


def work() -> None:
    given = SETTINGS
    adapter.exec_here(
        "celery", "-A", "peer_celery", "worker", "--pool", given["pool"], "--concurrency", str(given["concurrency"]),
        "--hostname", f"w{os.environ['BENCH_WORKER']}@bench",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
    )  # fmt: skip


if __name__ == "__main__":
    adapter.main(work, blocking=Producer)
