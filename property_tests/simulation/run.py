"""One simulation: a plan played in one trio loop under a virtual clock, and the history of it."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio._core._run as scheduler
from trio.testing import MockClock

from flowq.backends.memory import Backup

from .app import LIMITS, SLOW, TIMEOUTS, SimulatedApp, send
from .checker import Rules, Violation, check
from .fleet import Faults, Fleet, Hand
from .gate import Gate, tear_down
from .history import Accepted, ClockStepped, Died, Finished, History, LimitSet, Outcome, Quiet, ServerLost
from .place import WatchedServer, outstanding, told
from .plan import (
    CallFault,
    Cancel,
    Crash,
    Cut,
    Drain,
    Freeze,
    Hang,
    Limit,
    Op,
    Plan,
    Server,
    Stall,
    Start,
    Submit,
)

CLIENT = 9
"""The slot of the client's lines in a plan's faults."""
SLOTS = 3
EPOCH_MS = 1_700_000_000_000
"""The server's time at the start."""


@attrs.define(eq=False)
class Run:
    """What a simulation left."""

    plan: Plan
    history: History
    gate: Gate
    counts: Counter[str]
    asked: dict[str, Counter[str]]
    """By worker: its calls while faults were possible."""
    seconds: float
    """Of the machine's clock."""
    virtual: float
    """Of the simulation's."""


def simulate(plan: Plan, *, trace: bool = False) -> Run:
    """Play a plan. ``trace`` keeps every step in ``gate.trace``."""
    gate = Gate(trace=trace)
    began = time.perf_counter()
    clock = MockClock(autojump_threshold=0)
    with _one_schedule(plan.seed), _quiet_logs():
        world = trio.run(partial(_play, plan, gate), clock=clock, instruments=[gate])
    if gate.error is not None:
        raise gate.error
    world.counts["steps"] = gate.steps
    asked = {hand.name: hand.faults.asked for hand in world.fleet.hands}
    return Run(plan, world.history, gate, world.counts, asked, time.perf_counter() - began, world.ended_at)


def judge(run: Run) -> list[Violation]:
    """The checker's verdict of a simulation."""
    return check(run.history.events, Rules(run.plan.ttl, SLOW))


async def _play(plan: Plan, gate: Gate) -> World:
    async with trio.open_nursery() as nursery:
        world = World(plan, gate, nursery)
        await world.play()
    return world


class World:
    """See the module."""

    def __init__(self, plan: Plan, gate: Gate, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._gate = gate
        self._nursery = nursery
        self._stepped_ms = 0
        self._backup: tuple[float, Backup] | None = None
        self._tokens = 0
        self._sending = 0
        now = trio.lowlevel.current_clock().current_time
        self.history = History(now)
        self.server = WatchedServer(clock=self._server_ms, seed=plan.seed)
        self.counts: Counter[str] = Counter()
        self.fleet = Fleet(self.server, self.history, self.counts, gate, nursery, plan)
        self._client_faults = Faults("client", self.history, self._faults_of(CLIENT))
        self.client = SimulatedApp(
            "client", self.server, self.history, self.counts, self._client_faults, plan.ttl
        )
        self.ended_at = 0.0
        gate.spun = self._note_spin
        gate.deadlocked = self._note_deadlock

    def _server_ms(self) -> int:
        return EPOCH_MS + round(self.history.now() * 1000) + self._stepped_ms

    def _faults_of(self, slot: int) -> list[CallFault]:
        return [one for one in self._plan.faults if one.slot == slot]

    def _note_spin(self, owner: Any) -> None:
        self._gate.spun = lambda _owner: None
        self.history.add(
            Died(self.history.now(), owner.name, "it spins: tasks run for ever while no time passes")
        )
        for hand in self.fleet.up:
            self.fleet.crash(hand)
        tear_down(self._nursery)

    def _note_deadlock(self) -> None:
        self._gate.deadlocked = lambda: None
        names = [hand.name for hand in self.fleet.up]
        self.history.add(
            Died(self.history.now(), ", ".join(names), "a deadlock: all wait, and nobody for the clock")
        )
        tear_down(self._nursery)

    # --- the plan -----------------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        plan = self._plan
        for lane, limit in LIMITS.items():
            self.history.add(LimitSet(0.0, lane, limit))
        async with self.client:
            for slot in range(plan.workers):
                self.start(slot)
            for op in plan.ops:
                if op.after:
                    await trio.sleep(op.after)
                self._do(op)
            await trio.sleep(plan.rest)
            await self._settle_down()
        self.ended_at = self.history.now()

    def start(self, slot: int) -> Hand | None:
        return self.fleet.start(slot, self._faults_of(slot))

    def _do(self, op: Op) -> None:
        fleet, name = self.fleet, type(op).__name__.lower()
        hand = fleet.at(op.slot) if hasattr(op, "slot") else None
        match op:
            case Submit():
                for _ in range(op.jobs):
                    self._submit(op)
            case Start():
                if self.start(op.slot % SLOTS) is None:
                    return
            case Cut(slot=-1):
                for one in fleet.up:
                    fleet.cut(one, op.seconds)
                for line in self.client.lines:
                    line.cut(op.seconds)
            case Server():
                name = op.what
                if not self._befall_server(op):
                    return
            case Limit():
                self._set_limit(op.lane, op.limit)
            case Cancel():
                if not self._cancel(op.job):
                    return
            case _ if hand is None:
                return
            case Drain():
                fleet.drain(hand, op.grace)
            case Crash():
                fleet.crash_after(hand, op.steps)
            case Freeze():
                fleet.freeze(hand, op.seconds, but_keeper=False)
            case Stall():
                fleet.freeze(hand, op.seconds, but_keeper=True)
            case Cut():
                fleet.cut(hand, op.seconds)
            case Hang():
                fleet.hang(hand, op.seconds)
        self.counts[f"op {name}"] += 1

    def _submit(self, op: Submit) -> None:
        self._tokens += 1
        self._sending += 1
        self._nursery.start_soon(self._send, op, f"t{self._tokens}")

    async def _send(self, op: Submit, token: str) -> None:
        try:
            await send(self.client, op.lane, token, op.seconds, op.how, op.delay)
        finally:
            self._sending -= 1

    def _cancel(self, number: int) -> bool:
        jobs = [event.job for event in self.history.events if isinstance(event, Accepted)]
        if not jobs:
            return False
        self._nursery.start_soon(self._ask_cancel, jobs[number % len(jobs)])
        return True

    async def _ask_cancel(self, job: str) -> None:
        from flowq import ServerError

        try:
            await self.client.job(job).cancel("the plan says so")
        except ServerError:
            self.counts["cancels not heard"] += 1

    def _set_limit(self, lane: str, limit: int | None) -> None:
        server = self.server
        if limit == 0:
            server.pause(lane, True)
        else:
            server.pause(lane, False)
            server.set_limit(lane, limit)
        self.history.add(LimitSet(self.history.now(), lane, LIMITS[lane] if limit is None else limit))

    def _note_limits(self) -> None:
        """What was set before may have been lost."""
        state = self.server._state
        for lane, declared in LIMITS.items():
            limit = 0 if lane in state.paused else state.override.get(lane, declared)
            self.history.add(LimitSet(self.history.now(), lane, limit))

    def _befall_server(self, op: Server) -> bool:
        now, server = self.history.now(), self.server
        match op.what:
            case "backup":
                self._backup = (now, server.backup())
            case "restore":
                if self._backup is None:
                    return False
                since, backup = self._backup
                server.restore(backup)
                self.history.add(ServerLost(now, since))
                self._note_limits()
            case "forget":
                server.forget()
                self.history.add(ServerLost(now, None))
            case "flush":
                server.forget(keep_jobs=False)
                self.history.add(ServerLost(now, 0.0))
                self._note_limits()
            case "clock":
                self._stepped_ms += round(op.hours * 3_600_000)
                self.history.add(ClockStepped(now, op.hours * 3600))
        return True

    # --- the end ------------------------------------------------------------------------------------------------------------

    async def _settle_down(self) -> None:
        """End all faults, let everything be done that can be, and end the workers."""
        fleet, history = self.fleet, self.history
        fleet.calm()
        self._client_faults.is_over = True
        for line in self.client.lines:
            line.mend()
        for lane in LIMITS:
            self.server.set_limit(lane, None)
            self.server.pause(lane, False)
            history.add(LimitSet(history.now(), lane, LIMITS[lane]))
        if not any(hand for hand in fleet.up if hand.name not in history.crashed and not hand.is_leaving):
            self._start_anywhere()
        history.add(Quiet(history.now()))
        stuck = await self._until_done()
        with trio.move_on_after(60.0):
            while fleet.up:
                for hand in fleet.up:
                    if not hand.is_leaving:  # else it was told, or it has not begun yet
                        fleet.drain(hand, 30.0)
                await trio.sleep(0.1)
        if fleet.up and not stuck:
            stuck = f"workers do not end: {[hand.name for hand in fleet.up]}"
        for hand in fleet.up:
            hand.scope.cancel()
        self._note_told()
        members = len([m for m in self.server._state.members.values() if not m.expired])
        history.add(Finished(history.now(), outstanding(self.server), members, stuck))

    def _note_told(self) -> None:
        """Outcomes that nobody was seen to write: jobs that were cancelled and not run again."""
        history = self.history
        done = {event.job for event in history.events if isinstance(event, Outcome)}
        for event in list(history.events):
            if isinstance(event, Accepted) and event.job not in done:
                found = told(self.server, event.job)
                if found is not None:
                    history.add(Outcome(history.now(), event.job, *found, None))

    def _start_anywhere(self) -> None:
        slot = next(
            (s for s in range(SLOTS) if s not in self.fleet.slots or not self.fleet.slots[s].is_up), SLOTS
        )
        self.start(slot)

    async def _until_done(self) -> str:
        """Wait until nothing is outstanding. Returns what still is when it should have ended long ago."""
        end = self.history.now() + self._patience()
        while self._sending or outstanding(self.server):
            if self.history.now() >= end:
                return f"outstanding: {outstanding(self.server)}, submits under way: {self._sending}"
            await trio.sleep(0.25)
        return ""

    def _patience(self) -> float:
        """Seconds in which what is left must be done: leases, a quarantine, and each body's attempts one after the other."""
        work = sum(
            2 * op.jobs * (min(op.seconds, TIMEOUTS[op.lane]) + 3.0) + op.delay
            for op in self._plan.ops
            if isinstance(op, Submit)
        )
        return 4 * self._plan.ttl + 40.0 + work


@contextmanager
def _one_schedule(seed: int) -> Generator[None]:
    """Make trio's scheduler, and all dice, those of this seed."""
    private: Any = scheduler
    before = random.getstate(), private._r.getstate(), private._ALLOW_DETERMINISTIC_SCHEDULING
    private._ALLOW_DETERMINISTIC_SCHEDULING = True
    private._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        private._r.setstate(before[1])
        private._ALLOW_DETERMINISTIC_SCHEDULING = before[2]


@contextmanager
def _quiet_logs(names: Sequence[str] = ("flowq",)) -> Generator[None]:
    """Workers that are crashed by the dozen say so."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
