"""An app with a real worker, and no server: for the tests of programs that use flowq.

What this room does: runs ``flowq.run`` against a server in memory, in a task that is nobody's child, so that the block holds no
cancel scope and can stand in a fixture. What it will not do: pretend. The worker, its limits, timeouts and retries are the real
ones; only the place is another, and backoff is left out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Any, ParamSpec

import anyio
import anyio.lowlevel

from flowq._app import App
from flowq._errors import FlowqError
from flowq._options import milliseconds
from flowq._runtime.options import RunOptions, pool_of
from flowq._runtime.worker import Worker, run
from flowq._session import spawn_apart
from flowq._task import Task
from flowq.testing.recorder import DeadJob, EnqueuedJob, Recorder, complete, decoded

P = ParamSpec("P")


class MemoryWorker:
    """What ``flowq.testing.worker`` gives: the worker, and a look at what it was given to do."""

    def __init__(self, app: App[Any], server: Recorder, life: _Life) -> None:
        self._app = app
        self._server = server
        self._life = life

    def __repr__(self) -> str:
        return f"<MemoryWorker of {self._app.name}: {len(self._server.enqueued({}))} jobs enqueued>"

    @property
    def worker(self) -> Worker:
        """The running worker itself: ``drain()``, ``stats()``."""
        return self._life.worker

    async def run_until_idle(self, timeout: float | None = 5.0) -> None:
        """Wait until nothing is running, and nothing is ready that could start. A checkpoint.

        Jobs that bodies enqueue are waited for, and further attempts (they start at once here). Not waited for: delayed jobs (see
        ``advance``), paused tasks, and tasks that this worker does not serve.

        Args:
            timeout: seconds of the event loop's clock; None: as long as it takes.

        Raises:
            TimeoutError: names what is still at work. FlowqError: the worker has ended. What the worker died of: if it failed.
        """
        await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(timeout):
            while self._busy():
                self._life.check()
                await self._server.next_change()
            self._life.check_failure()
            return
        raise TimeoutError(
            f"not idle after {timeout:g} s: {'; '.join(self._busy()) or 'it just became idle'}"
        )

    def _busy(self) -> list[str]:
        work = self._server.at_work(self._life.lanes)
        return [
            f"{name}: {counts.ready} ready, {sum(counts.pending.values())} running"
            for name, counts in work.items()
        ]

    def advance(self, seconds: float) -> None:
        """Let the server's time leap forward, so that what is delayed by less is ready; ``run_until_idle`` runs it.

        The event loop's clock does not move: timeouts and ``expires`` are not touched. Under a virtual clock (trio's MockClock)
        there is no need for this: there sleeping is enough.
        """
        self._server.move_on(milliseconds(seconds, "advance(seconds)"))

    def jobs(self, task: Task[..., Any] | str | None = None) -> list[EnqueuedJob]:
        """What was enqueued in this block, in order, ended or not: all of it, or one task's jobs."""
        found = self._server.enqueued(self._app.tasks)
        if task is None:
            return found
        name = task if isinstance(task, str) else task.name
        return [job for job in found if job.task == name]

    def assert_enqueued(self, task: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob:
        """Check that a job of this task with these very arguments was enqueued, ended or not, and return the last such.

        An argument that was left out counts as its default.

        Raises:
            AssertionError: there is none; it lists the task's jobs. InvalidArguments: the arguments do not fit the task.
        """
        bound = task.bind(*args, **kwargs)
        wanted = complete(task, *decoded(task, bound.submission.envelope))
        jobs = self.jobs(task)
        for job in reversed(jobs):
            if complete(task, job.args, job.kwargs) == wanted:
                return job
        there = "\n".join(f"  {_call(job.arguments)}" for job in jobs) or "  (none)"
        raise AssertionError(
            f"no job {task.name}{_call(wanted)} was enqueued; of {task.name} there are:\n{there}"
        )

    @property
    def dead_letters(self) -> list[DeadJob]:
        """The jobs that ended in the dead letters, oldest first."""
        return self._server.dead_jobs()


def _call(arguments: Any) -> str:
    return f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


class _Life:
    """The worker's task, from its start to its end; also the ``task_status`` of its ``run``."""

    def __init__(self, app: App[Any], server: Recorder, options: dict[str, Any]) -> None:
        self._app = app
        self._server = server
        for name in ("tasks", "exclude"):  # read twice
            if isinstance(options.get(name), Iterator):
                options[name] = list(options[name])
        self._run = partial(run, app, **options, task_status=self)
        self._options = options
        self._scope = anyio.CancelScope()
        self._begun = anyio.Event()
        self._ended = anyio.Event()
        self._worker: Worker | None = None
        self.failure: BaseException | None = None

    def started(self, value: Worker | None = None) -> None:
        self._worker = value
        self._begun.set()

    @property
    def worker(self) -> Worker:
        assert self._worker is not None
        return self._worker

    @cached_property
    def lanes(self) -> tuple[str, ...]:
        """What it serves."""
        chosen = {name: self._options[name] for name in ("tasks", "exclude") if name in self._options}
        return tuple(pool_of(self._app, RunOptions(**chosen)))

    async def start(self) -> None:
        spawn_apart(self._live, f"flowq.testing.worker of {self._app.name}")
        await self._begun.wait()
        self.check_failure()

    async def _live(self) -> None:
        try:
            with self._scope:
                await self._run()
        except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - whatever it is, the test must learn of it
            self.failure = exc
        finally:
            self._begun.set()
            self._ended.set()
            self._server.wake_all()

    def check_failure(self) -> None:
        """Raise what the worker died of."""
        if self.failure is not None:
            raise self.failure

    def check(self) -> None:
        """Raise if nothing runs any more."""
        self.check_failure()
        if self._ended.is_set():
            raise FlowqError("the worker of this block has ended: it was drained, or it was a burst")

    async def end(self) -> None:
        with anyio.CancelScope(shield=True):
            self._scope.cancel()
            await self._ended.wait()


@asynccontextmanager
async def worker(app: App[Any], /, **options: Any) -> AsyncGenerator[MemoryWorker]:
    """Run a worker of this app for the length of a block, without any server, and enter the app.

    Whatever its URL, the app lives in memory in the block, in a place of its own: nothing is there at first, nothing stays. The
    block holds no cancel scope, so it may stand in a fixture of any framework. At its end bodies that still run are cancelled; call
    ``run_until_idle()`` first. ::

        async with flowq.testing.worker(app) as w:
            job = await resize.enqueue("a.png")
            await w.run_until_idle()
            assert await job.result() == "a-200.png"

    Args:
        app: not open at this moment.
        options: what ``flowq.run`` takes, for example ``concurrency=1``.

    Raises:
        FlowqError: the app is open already. What the worker died of: if it failed.
    """
    if app._gate.open:  # pyright: ignore[reportPrivateUsage] - what is open would not be this place
        raise FlowqError(
            f"app {app.name!r} is open already, at another place: enter flowq.testing.worker(app) first; it opens the app"
        )
    server = Recorder()
    with app._places.diverted(server):  # pyright: ignore[reportPrivateUsage] - made for this
        async with app:
            life = _Life(app, server, options)
            try:
                await life.start()
                yield MemoryWorker(app, server, life)
                await life.worker.drain(grace=0)
            finally:
                await life.end()
            life.check_failure()
