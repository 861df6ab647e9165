"""One run from beginning to end: server, links, workers, producer, faults, drain. What it leaves is a folder of logs."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import redis
import trio

from tests.stress.chaos import Chaos
from tests.stress.fleet import ROOT, Fleet
from tests.stress.load import APP, KINDS
from tests.stress.logbook import Log
from tests.stress.plan import draw
from tests.stress.proxy import Link
from tests.stress.server import Server

UP = 120.0
"""Seconds in which all workers of a busy machine come up."""
DRAIN = 30.0
"""Seconds without a change after which what is outstanding will not end any more."""


@attrs.frozen(kw_only=True)
class Settings:
    """What a run is told."""

    seconds: float
    seed: int
    backend: str
    workers: int
    supervised: int
    """How many of the workers are under ``flowq run``."""
    ttl: float
    every: float
    folder: Path
    loses: bool = False
    """Each restart of the server loses the end of what it has acknowledged."""
    program: Path | None = None
    """Of redis-server; None: as flowq finds one."""


@attrs.define(kw_only=True)
class Course:
    """How a run went, beside its logs."""

    server_version: str = ""
    skipped: list[str] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)
    """What was still outstanding when the patience for the drain was over."""


async def run(settings: Settings) -> Course:
    """Do it. Everything that was started has ended when this returns."""
    events = Log(settings.folder / "events.jsonl")
    (settings.folder / "bodies.log").touch()
    (settings.folder / "jobs.log").touch()
    server = Server(settings.folder, settings.program)
    fleet = Fleet(
        settings.folder, events, backend=settings.backend, ttl=settings.ttl, socket=server.socket, seed=settings.seed
    )  # fmt: skip
    course = Course()
    if not server.has_clock:
        course.skipped.append("clock steps: no C compiler (or no Linux) here")
    try:
        at = time.monotonic()
        events.event("server", at=at, until=await server.start(), how="first start")
        course.server_version = ".".join(map(str, server.version()))
        async with trio.open_nursery() as nursery:
            await fleet.keep(nursery, settings.workers, settings.supervised)
            way = fleet.link(-1)
            await nursery.start(way.serve)
            await _all_joined(server, settings.workers)
            await _load_and_faults(settings, events, server, fleet, way)
            course.left = await _drained(server)
            await fleet.close()
            nursery.cancel_scope.cancel()
    finally:
        fleet.end()
        server.kill()
    return course


async def _load_and_faults(settings: Settings, events: Log, server: Server, fleet: Fleet, way: Link) -> None:
    """The producer's life, and the faults in it."""
    plan = draw(
        settings.seed, seconds=settings.seconds, every=settings.every, ttl=settings.ttl, clock=server.has_clock,
        loses=settings.loses,
    )  # fmt: skip
    backend = "trio" if settings.backend == "mixed" else settings.backend
    with (settings.folder / "producer.log").open("ab") as log:
        producer = subprocess.Popen(  # noqa: ASYNC220 -- it is only started here, and ended by its own word
            [sys.executable, "-m", "tests.stress.producer", backend], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=log, stderr=log, env=fleet.environment | {"FLOWQ_URL": way.url}, start_new_session=True,
        )  # fmt: skip
    try:
        tell = functools.partial(_tell, producer)
        chaos = Chaos(
            fleet, server, way, tell, events, seed=settings.seed, ttl=settings.ttl, loses=settings.loses
        )
        # limited types start nothing for the first lease of a new server: the first member's
        await trio.sleep(settings.ttl + 1.0)
        events.event("begin", at=time.monotonic())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chaos.run, plan)
            await trio.sleep(settings.seconds)
        events.event("end", at=time.monotonic())
        await tell("stop")
        with trio.fail_after(UP):
            code = await trio.to_thread.run_sync(producer.wait, abandon_on_cancel=True)
        if code != 0:
            said = (settings.folder / "producer.log").read_text()[-2000:]
            raise RuntimeError(f"the producer ended with {code}:\n{said}")
    finally:
        producer.kill()
        producer.wait()


async def _tell(producer: subprocess.Popen[bytes], line: str) -> None:
    assert producer.stdin is not None
    producer.stdin.write(line.encode() + b"\n")
    producer.stdin.flush()
    await trio.lowlevel.checkpoint()


async def _all_joined(server: Server, workers: int) -> None:
    with server.client() as client, trio.fail_after(UP):
        while int(str(client.zcard(f"flowq:{{{APP}}}:members"))) <= workers:  # noqa: ASYNC110 -- in other processes
            await trio.sleep(0.05)


async def _drained(server: Server) -> list[str]:
    """Wait until nothing is outstanding, or nothing changes any more; gives what still is."""
    left = ["the server does not answer"]
    since = trio.current_time()
    with server.client() as client:
        while left and trio.current_time() - since < DRAIN:
            before = left
            with suppress(redis.RedisError):
                left = _outstanding(client)
            if left != before:
                since = trio.current_time()
            await trio.sleep(0.1)
    return left


def _outstanding(client: Any) -> list[str]:
    prefix = f"flowq:{{{APP}}}:"
    found = [f"{task}: {length}" for task in KINDS if (length := client.xlen(f"{prefix}s:{task}"))]
    if waiting := client.zcard(f"{prefix}delayed"):
        found.append(f"delayed: {waiting}")
    return found
