"""The app of a simulation: lanes of every kind, and bodies that tell the history when they begin and end.

Each worker and the client have an App of their own, as processes have: what differs is the way to the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal, Protocol

import anyio
import trio

import flowq
from flowq import SubmitUnknown, Unavailable
from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.protocol import Backend, OpenBackend
from flowq.testing.faults import Faulty, Line, Schedule

from .history import Accepted, History, Refused
from .place import Desk, WatchedServer
from .plan import How

TIMEOUTS = {"pair": 9.0, "one": 9.0, "sync": 9.0, "free": 40.0, "brief": 3.0}
LIMITS = {"pair": 2, "one": 1, "sync": 2}
RETRIES = 2
BACKOFF = flowq.Backoff(base=1.0, factor=2.0, maximum=4.0)
SLOW = 0.3
"""Seconds that a slow body needs to leave when it is cancelled."""
DEAF = 6.0
POLLS = 5
"""Parts into which a busy body divides its time."""


class Faults(Schedule, Protocol):
    """The schedule of a process's lines, which wants to know what the server has done."""

    def done(self, name: str) -> None: ...


class Boom(Exception):
    """What a failing body raises."""


class SimulatedApp(flowq.App[None]):
    """One process's app: its connections pass lines that the simulation can cut."""

    def __init__(
        self,
        who: str,
        server: WatchedServer,
        history: History,
        counts: Counter[str],
        schedule: Faults,
        ttl: float,
    ) -> None:
        super().__init__("simulated", "memory://", lease_ttl=ttl, lifespan=_lifespan)
        self.who = who
        self.lines: list[Line] = []
        self.dead = False
        """Crashed: its lines are cut for good."""
        self.history = history
        self._server = server
        self._counts = counts
        self._schedule = schedule
        self.lanes = _register(self, history)
        self.around_job(_around)

    def opener(self) -> OpenBackend:
        return self._open_line

    @asynccontextmanager
    async def _open_line(self) -> AsyncGenerator[Backend]:
        desk: MemoryServer = Desk(self._server, self.history, self._counts, self._schedule.done, self.who)  # type: ignore[assignment]
        async with open_memory(desk) as inner:
            faulty = Faulty(inner, self._schedule)
            self.lines.append(faulty.line)
            if self.dead:
                faulty.line.cut()
            yield faulty


@asynccontextmanager
async def _lifespan() -> AsyncGenerator[None]:
    await anyio.lowlevel.checkpoint()
    yield


@asynccontextmanager
async def _around(_job: flowq.RunningJob) -> AsyncGenerator[None]:
    await anyio.lowlevel.checkpoint()
    yield


def _register(app: SimulatedApp, history: History) -> dict[str, flowq.Task[[str, float, How], str]]:
    def options(lane: str) -> flowq.TaskOptions:
        return {
            "name": lane,
            "limit": LIMITS.get(lane),
            "timeout": TIMEOUTS[lane],
            "retries": RETRIES,
            "backoff": BACKOFF,
            "on_lease_loss": "continue" if lane == "free" else "cancel",
        }

    def begin(lane: str, token: str) -> Callable[[Literal["ok", "raised", "cancelled"]], None]:
        job = flowq.current_job()
        body = history.start(app.who, token, job.id, lane, job.fence, TIMEOUTS[lane])
        return lambda how: history.end(app.who, body, how)

    def make(lane: str) -> flowq.Task[[str, float, How], str]:
        async def body(token: str, seconds: float, how: How) -> str:
            end = begin(lane, token)
            try:
                await behave(app, token, seconds, how)
            except trio.Cancelled:
                end("cancelled")
                raise
            except BaseException:
                end("raised")
                raise
            end("ok")
            return token

        return app.task(**options(lane))(body)

    def inline(token: str, seconds: float, how: How) -> str:
        end = begin("sync", token)
        if how in ("fail", "reject") and flowq.current_job().attempt == 1:
            end("raised")
            raise Boom(seconds)
        end("ok")
        return token

    tasks = {lane: make(lane) for lane in TIMEOUTS if lane != "sync"}
    tasks["sync"] = app.task(**options("sync"))(inline)
    return tasks


async def behave(app: SimulatedApp, token: str, seconds: float, how: How) -> None:
    """What a body does between its begin and its end."""
    try:
        if how == "child":
            await send(app, "free", f"{token}.{flowq.current_job().fence}", 0.1, "ok", 0.0)
        if how == "busy":
            for _ in range(POLLS):
                await anyio.sleep(seconds / POLLS)
        elif seconds:
            await anyio.sleep(seconds)
        else:
            await anyio.lowlevel.checkpoint()
    except trio.Cancelled:
        if how != "stubborn":
            raise
    finally:
        leaving = {"slow": SLOW, "deaf": DEAF}.get(how, 0.0)
        if leaving:
            with flowq.cleanup(leaving):
                await anyio.sleep(leaving)
    if how == "fail" and flowq.current_job().attempt == 1:
        raise Boom(token)
    if how == "reject":
        raise flowq.Reject(token)


async def send(app: SimulatedApp, lane: str, token: str, seconds: float, how: How, delay: float) -> None:
    """Submit one job, ask again while its reply is lost, and tell the history what became of it."""
    history, task, now = app.history, app.lanes[lane], trio.current_time()
    if delay:
        task = task.options(delay=delay)
    try:
        try:
            job = await task.enqueue(token, seconds, how)
        except SubmitUnknown as unknown:
            job = await unknown.resend()
    except SubmitUnknown:
        return
    except Unavailable:
        if app.who not in history.crashed:
            history.add(Refused(history.now(), token))
        return
    if app.who not in history.crashed:
        history.add(Accepted(history.now(), token, job.id, now + delay))
