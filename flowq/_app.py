"""The app: one name, one place for jobs, and the tasks that belong to it.

What this room does: holds what users said, opens and closes the place, and hands calls on. What it will not do: run jobs (that
is ``flowq.run``), or read the environment and connect at import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from anyio.lowlevel import checkpoint

from flowq._chunks import chunks, submit_chunks
from flowq._collection import Registry, Tasks
from flowq._context import RunningJob
from flowq._errors import ConfigurationError, DuplicateTask, SubmitUnknown
from flowq._job import Job
from flowq._open import Places
from flowq._options import TaskPolicy, check_count, check_name
from flowq._producer import BatchUnknown
from flowq._session import Gate, Session
from flowq._settings import APP_DEFAULTS, SETTINGS, AppOptions, Configured
from flowq._sync import SyncProducer
from flowq._task import Bound, Registration, Task
from flowq.backends.protocol import OpenBackend

S = TypeVar("S")
R = TypeVar("R")

AroundJob = Callable[[RunningJob], AbstractAsyncContextManager[None]]
F = TypeVar("F", bound=AroundJob)


class App(Registry, Configured, Generic[S]):
    """One name, one place for jobs, and its tasks. Inert until entered; see ``AppOptions`` for what it takes.

    ``async with app:`` opens the producer side, in one event loop at a time; it may be entered again inside, and from other
    tasks of the loop. It holds no cancel scope, so it works in fixtures, and your exceptions leave it as they are. ``flowq.run``
    enters the app itself: bodies submit without more ado.

    Args:
        name: ``[A-Za-z0-9_.-]``; all keys of the app carry it.
        url: redis://, rediss://, unix://, embedded://[dir] or memory://. None: ``FLOWQ_URL``, looked up when entered.
        lifespan: makes the context manager around a worker's life; what it yields is ``app.state`` in bodies.
    """

    @overload
    def __init__(
        self: App[None],
        name: str,
        url: str | None = None,
        *,
        lifespan: None = None,
        **options: Unpack[AppOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[S]],
        **options: Unpack[AppOptions],
    ) -> None: ...
    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        **options: Unpack[AppOptions],
    ) -> None:
        Registry.__init__(self)
        Configured.__init__(self, {"url": url, **{k: v for k, v in options.items() if k in SETTINGS}})
        unknown = options.keys() - AppOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(AppOptions.__annotations__)
            raise ConfigurationError(f"App({name!r}): unknown option {min(unknown)!r}; known: {known}")
        self.name = check_name(name, "app name")
        self.lifespan = lifespan
        self.state_var: ContextVar[S] = ContextVar(f"flowq.{name}.state")
        """Set by each ``flowq.run`` for its bodies; read it as ``app.state``."""
        self._imports = tuple(options.get("imports", ()))
        self._defaults: dict[str, Any] = {k: v for k, v in options.items() if k in APP_DEFAULTS}
        TaskPolicy.of("(defaults of the app)", self._defaults)
        self._around: list[AroundJob] = []
        self._gate = Gate(name)
        self._places = Places(name)

    def __repr__(self) -> str:
        return f"<App {self.name}: {len(self._tasks)} tasks, {'open' if self._gate.open else 'closed'}>"

    @property
    def state(self) -> S:
        """What the lifespan of the worker that runs this body yielded.

        Raises:
            LookupError: this code does not run inside a job of this app, or the app has no lifespan.
        """
        try:
            return self.state_var.get()
        except LookupError:
            raise LookupError(
                f"app {self.name!r}: state exists inside its jobs only, if it has a lifespan"
            ) from None

    # --- tasks ------------------------------------------------------------------------------------------------------------

    def _settle_in(self, task: Task[..., Any]) -> None:
        task.registration.move_in(self, "", self._defaults)
        self._add(task)

    def include(self, tasks: Tasks, *, prefix: str = "") -> None:
        """Make a collection's tasks this app's, under ``prefix`` + their names.

        Raises:
            DuplicateTask, InvalidName: a name; nothing is included then. ConfigurationError: it is part of an app already.
        """
        for lane in tasks.tasks:
            if check_name(prefix + lane, "task name") in self._tasks:
                raise DuplicateTask(
                    f"two tasks are called {prefix + lane!r}: include the collection with another prefix="
                )

        def adopt(task: Task[..., Any]) -> None:
            task.registration.move_in(self, prefix, self._defaults)
            self._add(task)

        tasks.move_in(self, adopt)

    def load(self) -> None:
        """Import the modules of ``imports=``; entering the app does it too.

        Raises:
            ConfigurationError: one of them cannot be imported.
        """
        for module in self._imports:
            try:
                importlib.import_module(module)
            except Exception as exc:  # a module may raise anything
                raise ConfigurationError(
                    f"App({self.name!r}, imports=…): {module} cannot be imported: {exc!r}"
                ) from exc

    def ref(self, name: str) -> Task[..., Any]:
        """A task by its name: the registered one, else a handle that submits to code that is elsewhere, unchecked.

        Raises:
            InvalidName: no task can be called so.
        """
        if (task := self._tasks.get(check_name(name, "task name"))) is not None:
            return task
        return Task(Registration.by_name(name, self, self._defaults))

    def around_job(self, factory: F) -> F:
        """Wrap every job of this app's workers: ``@app.around_job`` over a function of the job that makes a context manager.

        The first one registered is the outermost. It sees the body's exception.
        """
        self._around.append(factory)
        return factory

    # --- open and close ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.load()
        self.look_again()
        await self._gate.enter(self._begin)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        failure = await self._gate.leave()
        if exc is None and failure is not None:
            raise failure

    def opener(self) -> OpenBackend:
        """What opens one more client of this app's place: a worker has one of its own.

        Raises:
            NoServer, BadURL, InvalidName: the url or namespace in force now.
        """
        return self._places.opener(
            self.setting("url").value, self.setting("namespace").value, self.setting("broker").value
        )

    def _begin(self) -> Session:
        return Session(self.name, self.opener(), enqueue_timeout=float(self.setting("enqueue_timeout").value))

    def now(self) -> float:
        """The time of day for what is said relative to it, in unix seconds: see ``Gate.now``."""
        return self._gate.now()

    def session(self) -> Session:
        """What is open in this event loop: its ``backend`` and ``producer``.

        Raises:
            NotEntered: nothing is.
        """
        return self._gate.current()

    def sync(self) -> SyncProducer:
        """A producer for code without an event loop, and for plain ``def`` bodies: ``with app.sync() as producer: …``.

        Thread-safe; may live as long as the process, and works on after a fork.

        Raises:
            NoServer, BadURL: see there.
        """
        self.load()
        self.look_again()
        url, namespace = self.setting("url").value, self.setting("namespace").value
        broker = self.setting("broker").value
        place = self._places.open_blocking(url, namespace, self._gate.anywhere, broker=broker)
        return SyncProducer(self, place, timeout=float(self.setting("enqueue_timeout").value))

    # --- jobs -------------------------------------------------------------------------------------------------------------

    async def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Submit by name, for producers that do not have the code: ``app.ref(name).enqueue(…)``. A checkpoint.

        Raises:
            UnknownTask: this app has tasks, and none of that name (``app.ref`` submits all the same). Else as ``Task.enqueue``.
        """
        if self._tasks and name not in self._tasks:
            raise self._unknown(name)
        return await self.ref(name).enqueue(*args, **kwargs)

    async def enqueue_many(self, bounds: Iterable[Bound[R]]) -> list[Job[R]]:
        """Submit many: ``await app.enqueue_many(resize.bind(p) for p in paths)``. A checkpoint.

        Sent in chunks of 500 as the iterable yields them; a chunk is stored as a whole or not at all, all chunks together are
        not. An error of ours carries ``accepted``: the jobs of the chunks before it. ``SubmitUnknown.resend()`` sends the chunk
        in question again, goes on with the rest, and returns all jobs.

        Raises:
            As ``Task.enqueue``.
        """
        await checkpoint()
        return await submit_chunks(chunks(bounds), self.submit, [])

    async def submit(self, bounds: list[Bound[R]], again: Any = None) -> list[Job[R]]:
        """Submit one chunk of at most 500, or the same one again; what ``Task.enqueue`` uses. A checkpoint."""
        producer = self.session().producer
        try:
            if again is None:
                receipts = await producer.submit([bound.submission for bound in bounds])
            else:
                receipts = await producer.resend(again)
        except BatchUnknown as exc:
            raise SubmitUnknown(str(exc), partial(self.submit, bounds, exc.ask)) from exc.__cause__
        return [bound.job(receipt, self) for bound, receipt in zip(bounds, receipts, strict=True)]

    def job(self, job_id: str) -> Job[Any]:
        """The handle of a job that was submitted before, here or elsewhere, of whatever task. Asks nobody."""
        return Job(job_id, self.kind_of(job_id), self)

    def kind_of(self, job_id: str) -> Registration:
        """The task that a job's id names, with or without its code."""
        lane = job_id.partition(":")[0]
        task = self._tasks.get(lane)
        return Registration.by_name(lane, self, self._defaults) if task is None else task.registration

    # --- limits -----------------------------------------------------------------------------------------------------------

    async def set_limit(self, task: Task[..., Any] | str, limit: int | None) -> None:
        """Change how many jobs of a task may run at once, in force at once and over deploys. A checkpoint.

        Args:
            task: a task or its name.
            limit: None goes back to what the code of the live workers declares; 0 starts nothing.

        Raises:
            UnknownTask: this app has tasks, and none of that name (``app.ref`` stands for one whose code is elsewhere).
        """
        check_count("set_limit: limit", limit, least=0, none=True)
        for lane in self._lanes(task):
            await self.session().backend.fleet.set_limit(lane, limit)

    async def pause(self, task: Task[..., Any] | str) -> None:
        """Start no more jobs of a task until ``resume``. Running ones are not touched, its limit is kept. A checkpoint."""
        for lane in self._lanes(task):
            await self.session().backend.fleet.pause(lane, True)

    async def resume(self, task: Task[..., Any] | str) -> None:
        """Undo ``pause``. A checkpoint."""
        for lane in self._lanes(task):
            await self.session().backend.fleet.pause(lane, False)

    def _lanes(self, task: Task[..., Any] | str) -> tuple[str, ...]:
        if isinstance(task, str) and self._tasks and task not in self._tasks:
            raise self._unknown(task)
        known = self.ref(task) if isinstance(task, str) else task
        return (known.name, *known.aliases)
