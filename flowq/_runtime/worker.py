"""The worker's tree. Its nesting is the order of shutdown: what stands further in ends first.

::

    run(app)
    └─ upkeep       keeper (thread) · watchdog · control · housekeeping · exchange (settles and claims; ends last)
       └─ bodies    N consumers, inside the app's lifespan
          └─ intake   reader (doorbell) · scheduler (what is due, whose lease ends)

A cancellation of the scope around ``run`` is prompt: it reaches intake and bodies at once; upkeep is sheltered from it until
what the bodies left has been settled or handed back, a second at most.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskStatus

from flowq._errors import FlowqError
from flowq._runtime.assembly import Crew, Servable, assemble
from flowq._runtime.clock import Loop
from flowq._runtime.keeper import Reports, as_flowq_error
from flowq._runtime.nursery import Shelter, most_telling, open_nursery
from flowq._runtime.options import OnOverrun, RunOptions, pool_of
from flowq._runtime.shift import Shift
from flowq._runtime.start import Patience, first_join
from flowq._runtime.stats import WorkerStats, collect
from flowq._runtime.watchdog import watch


class Worker:
    """A running worker: what ``await tasks.start(flowq.run, app)`` and ``open_worker`` give."""

    def __init__(self, crew: Crew, shift: Shift, stopped: anyio.Event) -> None:
        self._crew = crew
        self._shift = shift
        self._stopped = stopped

    def __repr__(self) -> str:
        return f"<Worker {self.id}: {self._crew.floor.running} running>"

    @property
    def id(self) -> str:
        """The member id of its present life in the fleet; another one after a lost lease."""
        return self._crew.member.standing.member

    @property
    def pulse_age(self) -> float:
        """Seconds since the event loop was last seen alive. May be read from any thread."""
        return self._crew.floor.loop.now() - self._crew.keeper.pulse

    def stats(self) -> WorkerStats:
        """What it does and has done. Asks nobody."""
        return collect(self._crew, cut_off=self._shift.cut_off, draining=self._shift.is_draining)

    async def drain(self, *, grace: float | None = None) -> None:
        """Take no more jobs, hand back what has not started, let bodies finish, and wait until the worker has ended.

        Cancelling the caller stops the waiting, not the drain. Called again it may shorten the grace, not lengthen it.

        Args:
            grace: seconds that running bodies get before they are cancelled and handed back (neither an attempt nor a crash);
                default: what ``run`` was given.
        """
        self._shift.drain(grace)
        await self._stopped.wait()


async def run(
    app: Servable,
    /,
    *,
    concurrency: int = 32,
    threads: int = 16,
    burst: bool = False,
    burst_wait: float = 0.0,
    grace: float = 20.0,
    cancel_grace: float = 5.0,
    start_timeout: float = 30.0,
    slice: float = 0.002,  # noqa: A002 - the public name
    max_loop_stall: float = 60.0,
    tasks: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    handle_signals: bool = False,
    hard_stop: bool = False,
    on_lease_overrun: OnOverrun | None = None,
    task_status: TaskStatus[Worker] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an app's tasks until cancelled, drained, or (``burst``) done. ``await tasks.start(flowq.run, app)`` returns a ``Worker``.

    Cancelling the scope around it is prompt: bodies are cancelled and handed back, which counts neither as an attempt nor as a
    crash. ``worker.drain()`` lets them finish. It enters the app itself. All durations are seconds.

    Args:
        concurrency: bodies that run at once in this process.
        threads: of them, bodies of plain ``def`` tasks, each in a thread.
        burst: end when nothing is ready, running, or due within ``burst_wait``.
        burst_wait: see ``burst``.
        grace: what running bodies get in a drain before they are cancelled.
        cancel_grace: what cancelled bodies get before the log names them; they are waited for all the same.
        start_timeout: for the server to answer the first time.
        slice: how long bodies run one after the other without a checkpoint of ours.
        max_loop_stall: how long a body may block the event loop before the lease is given up.
        tasks: names to serve; default all. exclude: names not to serve. Both speak of aliases, too.
        handle_signals: drain on SIGTERM and SIGINT, without grace on the second one. ``flowq run`` does; a library must not.
        hard_stop: end the process (exit code 70) when limited bodies outlive their lease. Only for processes that are all yours.
        on_lease_overrun: called with their number in that case, in another thread.

    Raises:
        Unavailable: no answer within ``start_timeout``. ServerError: the server refuses (password, version, replica, layout).
        ConfigurationError: an argument, nothing to serve, or another ``lease_ttl`` than the fleet's (at once; if the fleet is being
            changed to it, after ``start_timeout``).
        LeaseLost: the lease was lost, and the server refuses to let this worker join again.
        KeyboardInterrupt: it struck a body; the worker has drained.
    """
    options = RunOptions(
        concurrency=concurrency, threads=threads, burst=burst, burst_wait=burst_wait, grace=grace, cancel_grace=cancel_grace,
        start_timeout=start_timeout, slice=slice, max_loop_stall=max_loop_stall, tasks=tasks, exclude=exclude,
        handle_signals=handle_signals, hard_stop=hard_stop, on_lease_overrun=on_lease_overrun,
        skew_window=float(app.setting("skew_window").value),
    )  # fmt: skip
    await serve(app, options, task_status=task_status)


async def serve(
    app: Servable, options: RunOptions, *, task_status: TaskStatus[Worker] = anyio.TASK_STATUS_IGNORED
) -> None:
    """What ``run`` does with its arguments."""
    loop = Loop.current(virtual=options.keeper == "task")
    if loop.is_virtual:
        options = options.in_virtual_time()
    stopped = anyio.Event()
    async with AsyncExitStack() as stack:
        stack.callback(stopped.set)
        patience = Patience(options.start_timeout)
        with patience.bounded():
            await stack.enter_async_context(app)
        pool_of(app, options)
        async with open_nursery() as tasks:
            upkeep = Shelter(tasks)
            try:
                with patience.bounded():
                    backend = await upkeep.open(app.opener(), name="flowq backend")
                    crew = assemble(app, backend, options, loop)
                    stack.callback(crew.publisher.close)
                    quarantine = await first_join(crew, patience)
                crew.reconciler.note_quarantine(quarantine)
                shift = Shift(crew, options)
                worker = Worker(crew, shift, stopped)
                stack.push(partial(_say_stopped, crew, worker, shift))
                _start_upkeep(crew, shift, upkeep, options)
                try:
                    await _live(app, shift, partial(_say_started, app, crew, worker, options, task_status))
                finally:
                    await shift.close()
                    crew.keeper.stop()
            finally:
                upkeep.close()
    if shift.interrupted is not None:
        raise KeyboardInterrupt from shift.interrupted


async def _live(app: Servable, shift: Shift, started: Callable[[], None]) -> None:
    """Bodies, inside the app's lifespan; its state is set for them alone."""
    if app.lifespan is None:
        await shift.work(started)
        return
    async with app.lifespan() as state:
        token = app.state_var.set(state)
        try:
            await shift.work(started)
        finally:
            app.state_var.reset(token)


def _start_upkeep(crew: Crew, shift: Shift, upkeep: Shelter, options: RunOptions) -> None:
    floor, member, keeper = crew.floor, crew.member, crew.keeper
    floor.late = partial(member.lapse, "no renewal was answered in time")
    floor.interrupt = shift.interrupt
    floor.left_late = keeper.publish
    crew.exchange.after_turn = shift.after_turn
    keeper.reports = Reports(
        lost=partial(member.lapse_of, why="the server does not know it any more"),
        forgot=member.note_forgot,
        change=member.note_change,
        cancels=crew.control.apply,
        failed=lambda error: shift.fail(as_flowq_error(error)),
    )
    if options.keeper == "thread":
        keeper.start_thread()
    else:
        upkeep.start_soon(keeper.run_as_task, name="flowq keeper")
    upkeep.start_soon(watch, floor, member, keeper, name="flowq watchdog")
    upkeep.start_soon(crew.control.run, name="flowq control")
    upkeep.start_soon(crew.exchange.run, name="flowq exchange")
    upkeep.start_soon(crew.housekeeping.run, name="flowq housekeeping")
    if options.handle_signals:
        upkeep.start_soon(_heed_signals, shift, name="flowq signals")


async def _heed_signals(shift: Shift) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            shift.drain(0.0 if shift.is_draining else None)


def _say_started(
    app: Servable, crew: Crew, worker: Worker, options: RunOptions, task_status: TaskStatus[Worker]
) -> None:
    crew.floor.events.say(
        logging.INFO, "worker.started", "worker %s of app %s serves %s, %d at once", worker.id, app.name,
        ", ".join(sorted(crew.floor.lanes)), options.concurrency,
        member=worker.id, app=app.name, lanes=sorted(crew.floor.lanes), concurrency=options.concurrency, threads=options.threads,
        grace=options.grace, lease_ttl=app.lease_ttl, backend=crew.backend.capabilities.name, loop=crew.floor.loop.kind,
    )  # fmt: skip
    task_status.started(worker)


def _say_stopped(
    crew: Crew,
    worker: Worker,
    shift: Shift,
    _: type[BaseException] | None,
    exc: BaseException | None,
    __: TracebackType | None,
) -> None:
    """Whatever ended it; its upkeep has left by now."""
    if exc is not None and not isinstance(exc, anyio.get_cancelled_exc_class()):
        how = "failed"
    else:
        how = "cancelled" if shift.was_cut else "drained"
    stats = worker.stats()
    crew.floor.events.say(
        logging.INFO, "worker.stopped", "%s: %s", how, stats.summary(), member=worker.id, how=how, succeeded=stats.succeeded,
        cut_off=stats.cut_off, handed_back=stats.handed_back,
    )  # fmt: skip


@asynccontextmanager
async def open_worker(app: Servable, /, **options: Any) -> AsyncGenerator[Worker]:
    """A worker beside the block's own code: ``async with flowq.open_worker(app) as worker: …``. Takes what ``run`` takes.

    It drains when the block ends normally, and is cancelled when an exception leaves the block; that exception comes out as it
    is. If the worker fails, the block is cancelled and its failure is raised.
    """
    theirs: BaseException | None = None
    error: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            worker: Worker = await tasks.start(partial(run, app, **options))
            try:
                yield worker
            except BaseException as exc:
                theirs = exc
                raise
            await worker.drain()
    except BaseExceptionGroup as group:
        error = theirs if theirs is not None and theirs in group.exceptions else most_telling(group)
    if error is not None:
        raise error


__all__ = ["FlowqError", "Worker", "WorkerStats", "open_worker", "run", "serve"]
