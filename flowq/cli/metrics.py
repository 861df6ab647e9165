"""``/metrics`` in Prometheus' text format, written by the well-kept ``prometheus_client`` (extra ``metrics``).

Two sources. What the worker processes of this supervisor did comes from their pulse files. What the app looks like in Redis one of
them looks up every ``LOOK_EVERY`` seconds and leaves in a file: the supervisor itself asks no server, so that a slow Redis can delay
neither a probe nor a kill.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flowq._errors import FlowqError
from flowq.backends.redis.keys import full_name
from flowq.cli.board import Pulse, clock

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from flowq.backends.redis.views import Snapshot

logger = logging.getLogger("flowq.cli")

LOOK_EVERY: Final = 10.0
"""Seconds between two looks at the app."""
HANDOVER: Final = 5.0
"""Seconds more after which the next worker process looks instead, and so on."""
STALE: Final = 60.0
"""Seconds after which an old look is shown no more: no figure is better than a wrong one."""
HOW: Final = "/metrics needs prometheus_client: pip install 'trio-flowq[metrics]'"


def is_available() -> bool:
    """Is the extra installed? Imports it, so that the first scrape need not wait for that."""
    try:
        import_module("prometheus_client")
    except ImportError:
        return False
    return True


class TaskFigures(msgspec.Struct):
    """One lane at the last look."""

    task: str
    ready: int
    oldest_waiting: float
    running: int
    delayed: int
    dead: int
    limit: int | None
    workers: int


class AppFigures(msgspec.Struct):
    """The app at the last look, as one worker process hands it to the supervisor."""

    at: float
    """``board.clock()``."""
    app: str
    workers: int
    tasks: list[TaskFigures]

    @classmethod
    def of(cls, snapshot: Snapshot) -> AppFigures:
        name = full_name(snapshot.name, snapshot.namespace)
        tasks = [
            TaskFigures(
                t.name, t.ready, t.oldest_waiting or 0.0, t.running + t.orphaned, t.delayed, t.dead, t.limit, t.served_by,
            )
            for t in snapshot.types
        ]  # fmt: skip
        return cls(clock(), name, sum(w.alive for w in snapshot.workers), tasks)


class Lookout:
    """A worker process' part: look at the app when it is this one's turn. Blocking calls; for a thread."""

    def __init__(self, path: Path, index: int, url: str, name: str, namespace: str | None) -> None:
        self._path = path
        self._after = LOOK_EVERY + index * HANDOVER
        self._app = (url, name, namespace)
        self._stack = contextlib.ExitStack()
        self._admin: Any = None

    def look(self) -> None:
        """Look, unless somebody else has lately.

        Raises:
            FlowqError: the server does not answer, or refuses.
        """
        found = read(self._path)
        if found is not None and clock() - found.at < self._after:
            return
        if self._admin is None:
            from flowq.backends.redis.admin import open_admin
            from flowq.cli.target import address_of

            url, name, namespace = self._app
            self._admin = self._stack.enter_context(open_admin(address_of(url, name), name, namespace))
        figures = AppFigures.of(self._admin.snapshot())
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_bytes(msgspec.json.encode(figures))
        new.replace(self._path)
        self._after = min(self._after, LOOK_EVERY)

    def close(self) -> None:
        self._stack.close()


def read(path: Path) -> AppFigures | None:
    """The last look; None: there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AppFigures)
    except (OSError, msgspec.DecodeError):
        return None


def render(workers: Sequence[tuple[int, Pulse]], figures: AppFigures | None) -> bytes:
    """The page.

    Args:
        workers: index and pulse of each worker process that runs.
        figures: of the app; None, or old: it is left out.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Both(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _of_workers(workers)
            if figures is not None and clock() - figures.at < STALE:
                yield from _of_app(figures)

    registry = CollectorRegistry()
    registry.register(Both())
    return generate_latest(registry)


def _of_workers(workers: Sequence[tuple[int, Pulse]]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    ended = CounterMetricFamily(
        "flowq_worker_jobs",
        "Bodies that ended in this worker process, by outcome.",
        labels=["worker", "outcome"],
    )
    gauges = {
        "running": GaugeMetricFamily(
            "flowq_worker_consumers_busy", "Consumers with a body.", labels=["worker"]
        ),
        "concurrency": GaugeMetricFamily("flowq_worker_consumers", "Consumers.", labels=["worker"]),
        "consuming": GaugeMetricFamily(
            "flowq_worker_up", "1: it is a member of the fleet.", labels=["worker"]
        ),
    }
    counters = {
        "stalls": CounterMetricFamily(
            "flowq_worker_loop_stalls", "Times that the event loop stood still.", labels=["worker"]
        ),
        "outages": CounterMetricFamily(
            "flowq_worker_redis_lost", "Outages of Redis that it met.", labels=["worker"]
        ),
        "leases_lost": CounterMetricFamily(
            "flowq_worker_leases_lost", "Leases that it lost.", labels=["worker"]
        ),
    }
    for index, pulse in workers:
        for outcome in ("succeeded", "retried", "dead", "cancelled", "handed_back"):
            ended.add_metric([str(index), outcome], getattr(pulse, outcome))
        for name, gauge in gauges.items():
            gauge.add_metric([str(index)], float(getattr(pulse, name)))
        for name, counter in counters.items():
            counter.add_metric([str(index)], getattr(pulse, name))
    yield from (ended, *gauges.values(), *counters.values())


def _of_app(figures: AppFigures) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    labels = ["app", "task"]
    families = {
        "ready": GaugeMetricFamily("flowq_jobs_ready", "Jobs that wait for a worker.", labels=labels),
        "oldest_waiting": GaugeMetricFamily(
            "flowq_oldest_waiting_seconds", "How long the oldest ready job has waited.", labels=labels
        ),
        "running": GaugeMetricFamily("flowq_jobs_running", "Jobs in the hands of workers.", labels=labels),
        "delayed": GaugeMetricFamily("flowq_jobs_delayed", "Jobs that are due later.", labels=labels),
        "dead": GaugeMetricFamily("flowq_dead_letters", "Dead letters.", labels=labels),
        "limit": GaugeMetricFamily(
            "flowq_limit", "The limit in force; 0: paused; absent: unlimited.", labels=labels
        ),
        "workers": GaugeMetricFamily("flowq_task_workers", "Live workers that serve it.", labels=labels),
    }
    for task in figures.tasks:
        for name, family in families.items():
            value = getattr(task, name)
            if value is not None:
                family.add_metric([figures.app, task.task], value)
    fleet = GaugeMetricFamily("flowq_workers", "Live workers of the app.", labels=["app"])
    fleet.add_metric([figures.app], figures.workers)
    age = GaugeMetricFamily(
        "flowq_app_figures_age_seconds", "How old the figures of the app are.", labels=["app"]
    )
    age.add_metric([figures.app], max(0.0, clock() - figures.at))
    yield from (*families.values(), fleet, age)


def say(error: FlowqError, said_at: float) -> float:
    """Log that the app could not be looked at, now and then. Returns when it was said last; monotonic seconds."""
    now = time.monotonic()
    if now - said_at < 600:
        return said_at
    logger.warning("/metrics lacks the figures of the app: %s", error, extra={"event": "metrics.missing"})
    return now
