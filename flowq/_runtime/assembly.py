"""Putting a worker's parts together: who knows whom. Nothing waits here, nothing is started."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol

import anyio
import attrs
from trio.lowlevel import disable_ki_protection

from flowq._runtime.aside import Aside
from flowq._runtime.clock import Loop
from flowq._runtime.control import Control
from flowq._runtime.events import Events
from flowq._runtime.exchange import Exchange
from flowq._runtime.floor import Floor
from flowq._runtime.housekeeping import Housekeeping
from flowq._runtime.intake import Intake
from flowq._runtime.judge import Judge
from flowq._runtime.keeper import Keeper
from flowq._runtime.lanes import Around, Lane, surrounded
from flowq._runtime.member import Member, member_facts
from flowq._runtime.options import RunOptions, Served, lane_policy, pool_of
from flowq._runtime.overrun import Publisher
from flowq._runtime.reconcile import Reconciler
from flowq._runtime.scheduler import Scheduler
from flowq._runtime.threads import in_thread, inline
from flowq._settings import Resolved
from flowq._task import Task
from flowq.backends.protocol import Backend, OpenBackend


class Servable(Served, Protocol):
    """An app, as far as a worker needs it."""

    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    state_var: ContextVar[Any]

    _around: list[Around]

    @property
    def lease_ttl(self) -> float: ...
    @property
    def max_payload(self) -> int: ...

    def setting(self, name: str) -> Resolved: ...
    def opener(self) -> OpenBackend: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...


@attrs.frozen(eq=False)
class Crew:
    """The parts of one worker."""

    floor: Floor
    judge: Judge
    intake: Intake
    keeper: Keeper
    member: Member
    reconciler: Reconciler
    exchange: Exchange
    scheduler: Scheduler
    control: Control
    housekeeping: Housekeeping
    backend: Backend
    publisher: Publisher


def assemble(app: Servable, backend: Backend, options: RunOptions, loop: Loop) -> Crew:
    """Make the parts of a worker for an open backend.

    Raises:
        ConfigurationError: there is nothing to serve. OSError, RuntimeError: no slot to publish deadlines in.
    """
    pool = pool_of(app, options)
    events = Events(loop.now)
    threads = anyio.CapacityLimiter(options.threads)
    arounds = tuple(app._around)  # pyright: ignore[reportPrivateUsage] - the app registers them for us alone
    lanes = {name: _lane(name, task, options, threads, arounds) for name, task in pool.items()}
    floor = Floor(loop, events, lanes, concurrency=options.concurrency, slice_=options.slice)
    judge = Judge(floor, skew_window=options.skew_window, max_payload=app.max_payload)
    publisher = Publisher.from_environment()
    keeper = Keeper(floor, options, publisher, backend.fleet.renewer)
    intake = Intake(floor, options, backend.stream.stop_waiting)
    member = Member(
        backend,
        floor,
        keeper,
        member_facts(options.concurrency, loop.kind),
        {name: lane_policy(task) for name, task in pool.items()},
        app.lease_ttl,
    )
    reconciler = Reconciler(backend, floor, member, intake, keeper)
    aside = Aside(backend, floor, member)
    exchange = Exchange(backend, floor, member, intake, keeper, reconciler, aside)
    scheduler = Scheduler(backend, floor, intake, random.random)
    housekeeping = Housekeeping(backend, floor, member, aside)
    control = Control(backend.fleet, floor, intake, heard=housekeeping.soon)
    return Crew(
        floor, judge, intake, keeper, member, reconciler, exchange, scheduler, control, housekeeping, backend, publisher,
    )  # fmt: skip


def _lane(
    name: str,
    task: Task[..., Any],
    options: RunOptions,
    threads: anyio.CapacityLimiter,
    arounds: tuple[Around, ...],
) -> Lane:
    if not task.is_sync:
        body = task.fn
        if hasattr(body, "__code__"):
            disable_ki_protection(body)
    elif options.keeper == "task":
        body = inline(task.fn)
    else:
        body = in_thread(task.fn, threads)
    return Lane(name, task, surrounded(body, arounds))
