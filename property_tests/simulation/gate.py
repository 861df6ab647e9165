"""Between trio's scheduler and the tasks of each worker: stands whole workers still, counts their steps, notes where they wait.

A frozen worker's tasks are not stepped: what would have been sent into them is kept, and they are parked where no cancellation
reaches them, until they are thawed. That is what SIGSTOP does: time passes, deadlines expire, replies arrive, and nobody looks.

trio offers no such hook, so this reads and writes a task's ``_next_send_fn`` (trio 0.32 to 0.35) in an instrument, whose errors
trio would only log: they are kept in ``error``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio
import trio._core._run as scheduler
from trio._core._traps import WaitTaskRescheduled
from trio.abc import Instrument

import flowq

Point = tuple[str, int]
"""A line on which a task waits: file below flowq/, line."""
ROOT = str(Path(flowq.__file__).parent) + "/"
RUNTIME = ROOT + "_runtime/"
MOST_STEPS_AT_ONCE = 5_000
"""Steps of one worker without time passing; more is a spin."""
MOST_IDLE = 50
"""Looks of the scheduler in which nobody has anything to do, and no deadline is set; more is a deadlock."""


class Owner(Protocol):
    """A worker, as far as the gate needs it."""

    name: str


@attrs.define(eq=False)
class Gait:
    """How one worker moves."""

    owner: Owner
    steps: int = 0
    frozen: bool = False
    but_keeper: bool = False
    parked: list[tuple[trio.lowlevel.Task, Any]] = attrs.Factory(list[tuple[trio.lowlevel.Task, Any]])
    alarms: list[tuple[int, Callable[[], None]]] = attrs.Factory(list[tuple[int, Callable[[], None]]])
    """Step numbers at which something happens; soonest last."""
    spin_since: tuple[float, int] = (0.0, 0)


class Gate(Instrument):
    """Install it with ``trio.run(…, instruments=[gate])``; a worker's first task says ``adopt``."""

    def __init__(self, *, trace: bool = False) -> None:
        self._gaits: dict[trio.lowlevel.Task, Gait] = {}
        self._keepers: set[trio.lowlevel.Task] = set()
        self.reached: dict[Point, int] = {}
        """How often a task of a worker came to wait there."""
        self.visits: dict[tuple[str, Point], tuple[int, int]] = {}
        """By worker and point: the first and the last of its steps that ended there."""
        self.is_watching = True
        """Whether ``visits`` are kept: not in the end, when nothing befalls anybody any more."""
        self.spun: Callable[[Owner], None] = _nothing
        self.deadlocked: Callable[[], None] = lambda: None
        self._idle = 0
        self.error: BaseException | None = None
        self.steps = 0
        """Of all workers' tasks."""
        self.trace: list[tuple[str, str, Point | None]] | None = [] if trace else None
        """Worker, task, where it waits: one row a step."""
        self._points: dict[tuple[Any, int], Point] = {}

    # --- what the simulation does -------------------------------------------------------------------------------------------

    def adopt(self, owner: Owner) -> Gait:
        """The running task, and all that come from it, are this worker's."""
        gait = Gait(owner)
        self._gaits[trio.lowlevel.current_task()] = gait
        return gait

    def freeze(self, gait: Gait, *, but_keeper: bool = False) -> None:
        gait.frozen, gait.but_keeper = True, but_keeper

    def thaw(self, gait: Gait) -> None:
        """Let them run on from where they are."""
        gait.frozen = False
        parked, gait.parked = gait.parked, []
        for task, value in parked:
            trio.lowlevel.reschedule(task, value)

    def ring_at(self, gait: Gait, steps: int, alarm: Callable[[], None]) -> None:
        """Call ``alarm`` when the worker's tasks have taken so many further steps, just after the last of them."""
        gait.alarms.append((gait.steps + steps, alarm))
        gait.alarms.sort(key=lambda one: -one[0])

    # --- what trio calls ----------------------------------------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        try:
            spawner = trio.lowlevel.current_task()
        except RuntimeError:
            return  # trio's own first task
        gait = self._gaits.get(spawner)
        if gait is not None:
            self._gaits[task] = gait
            if task.name == "flowq keeper":
                self._keepers.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._gaits.pop(task, None)
        self._keepers.discard(task)

    def before_io_wait(self, _timeout: float) -> None:
        self._idle += 1
        if self._idle > MOST_IDLE:
            self._idle = 0
            self.deadlocked()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._idle = 0
        gait = self._gaits.get(task)
        if gait is None or not gait.frozen or (gait.but_keeper and task in self._keepers):
            return
        private: Any = task

        def park(value: Any) -> WaitTaskRescheduled:
            gait.parked.append((task, value))
            return WaitTaskRescheduled(_out_of_reach)

        private._next_send_fn = park

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        gait = self._gaits.get(task)
        if gait is None or gait.frozen:
            return
        try:
            self._note(task, gait)
        except BaseException as exc:  # noqa: BLE001 - trio would log it and drop this instrument
            self.error = exc

    def _note(self, task: trio.lowlevel.Task, gait: Gait) -> None:
        gait.steps += 1
        self.steps += 1
        now, (since, steps) = trio.current_time(), gait.spin_since
        if now != since:
            gait.spin_since = (now, gait.steps)
        elif gait.steps - steps > MOST_STEPS_AT_ONCE:
            self.spun(gait.owner)
        points = self._look(task)
        for point in points:
            self.reached[point] = self.reached.get(point, 0) + 1
            if self.is_watching:
                key = gait.owner.name, point
                first = self.visits.get(key)
                self.visits[key] = (gait.steps if first is None else first[0], gait.steps)
        if self.trace is not None:
            self.trace.append((gait.owner.name, task.name, points[-1] if points else None))
        while gait.alarms and gait.alarms[-1][0] <= gait.steps:
            gait.alarms.pop()[1]()

    def _look(self, task: trio.lowlevel.Task) -> tuple[Point, ...]:
        """The lines of flowq's runtime on which this task waits, outermost first."""
        found: list[Point] = []
        points = self._points
        coro: Any = task.coro
        while coro is not None:
            frame = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
            if frame is None:
                break
            key = (frame.f_code, frame.f_lineno)
            point = points.get(key)
            if point is None:
                name = frame.f_code.co_filename
                point = (name[len(ROOT) :], frame.f_lineno) if name.startswith(RUNTIME) else ("", 0)
                points[key] = point
            if point[0]:
                found.append(point)
            coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
        return tuple(found)


def tear_down(nursery: trio.Nursery) -> None:
    """End what would never end: every shield is taken away, and everything is cancelled."""
    runner: Any = scheduler.GLOBAL_RUN_CONTEXT.runner
    for task in runner.tasks:
        status: Any = task._cancel_status
        while status is not None:
            status._scope.shield = False
            status = status._parent
    nursery.cancel_scope.cancel()


def _out_of_reach(_raise: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _nothing(_owner: Owner) -> None:
    """Until the simulation has begun."""
