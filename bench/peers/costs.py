"""(f) What a job costs beside time: Redis's memory while it is queued, requests and bytes on the wire, the worker's own memory."""

from __future__ import annotations

import time
from typing import Any

from bench.conditions import Gone, deadline
from bench.peers.samples import Measure
from bench.peers.stage import LOOK, Stage, wait_for
from bench.peers.toll import tolled
from bench.peers.workloads import STEADY, Sample

QUEUED = 100_000
STORES = 15.0
"""Seconds that a producer has to store them; a slow one's are fewer, and the row says how many."""
WATCHED = 3.0
"""Seconds after the first body in which the worker is watched."""
SETTLES = 1.0
"""Seconds after which an idle worker's memory is read."""


def costs(stage: Stage, quick: bool) -> list[Sample]:
    """Each counted once: these are no times."""
    queued, store = _queued(stage, QUEUED if not quick else 1000)
    busy = _working(stage, queued)
    stage.stop()
    stage.forget()
    stage.start()
    stage.produce("enqueue", {"way": "one", "jobs": 1, "body": "probe", "args": [time.monotonic()]})
    wait_for(stage, "a first body", STEADY, until=lambda: stage.marks("probe"))
    time.sleep(SETTLES)
    idle = Sample(_less("worker's memory, idle, nothing queued", "MiB"), stage.resident())
    return [store, *busy, idle]


def _queued(stage: Stage, most: int) -> tuple[int, Sample]:
    """Store so many; how many they are, and Redis's bytes for each."""
    stage.produce("enqueue", {"way": "one", "jobs": 1})
    with stage.server.client() as client:
        before = _used(client)
        done = stage.produce("enqueue", {"way": "bulk", "jobs": most, "seconds": STORES}, timeout=120)
        grown = _used(client) - before
    facts = {"queued": float(done["jobs"])}
    return done["jobs"] + 1, Sample(
        _less("Redis memory of a queued no-op job", "bytes"), grown / done["jobs"], facts
    )


def _used(client: Any) -> int:
    """Bytes, once the server has let go of its last producer's connections, which may hold more than all jobs."""
    limit = deadline(10, "only the bench is connected")
    while client.info("clients")["connected_clients"] > 1:
        limit.wait()
    client.memory_purge()
    return int(client.info("memory")["used_memory"])


def _working(stage: Stage, queued: int) -> list[Sample]:
    """Requests, bytes and memory of one worker that works on the backlog for some seconds, or until it is done."""
    highest = 0.0
    with tolled(stage.server.port) as toll:
        stage.through = toll.port
        stage.start()
        wait_for(stage, "a first body", STEADY, until=stage.tallies)
        until = time.monotonic() + WATCHED
        while time.monotonic() < until and stage.ran() < queued:
            highest = max(highest, stage.resident())
            stage.check_alive()
            time.sleep(5 * LOOK)
        ran, requests, through = stage.ran(), toll.requests, toll.sent + toll.received
        stage.through = None
        stage.stop()
    if not ran:
        raise Gone("no body ran")
    facts = {"jobs": float(ran)}
    return [
        Sample(_less("requests on the wire for a no-op job, worker's side", "a job"), requests / ran, facts),
        Sample(_less("bytes on the wire for a no-op job, worker's side", "bytes"), through / ran, facts),
        Sample(_less("worker's memory, working on what is queued, most", "MiB"), highest, facts),
    ]


def _less(name: str, unit: str) -> Measure:
    return Measure("f", name, unit, more_is_better=False)
