"""Where tasks are registered: an app, or a collection that an app includes.

What this room does: the decorator with its types, and the table of names. What it will not do: anything at run time.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from flowq._errors import ConfigurationError, DuplicateTask, InvalidName, UnknownTask
from flowq._options import TaskOptions, check_name, is_name
from flowq._signature import check_function
from flowq._task import AsyncTask, SyncTask, Task, TaskHome, register

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """What ``@app.task(…)`` returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # a def that returns a coroutine is not meant here
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


class Registry:
    """The decorator and the table that App and Tasks share."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """Every name that is served, aliases too, with its task."""
        return self._tasks

    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # a def that returns a coroutine is not meant here
    @overload
    def task(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function: ``@app.task`` or ``@app.task(limit=3, timeout=30)``. ``TaskOptions`` explains the options.

        An ``async def`` runs in the worker's event loop, a plain ``def`` in one of its threads. Called directly the task is
        just its function.

        Raises:
            InvalidName, DuplicateTask: the name. UnservableSignature: an annotation that JSON cannot give back.
            ConfigurationError: an option.
        """
        if fn is None:
            return lambda fn: self._register(fn, options)
        return self._register(fn, options)

    def _register(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
        is_sync = check_function(fn)
        name = options.get("name", fn.__name__)
        if isinstance(options.get("aliases", ()), str):
            raise ConfigurationError(
                f"task {name!r}: aliases={options['aliases']!r}: a list of names, not one string"
            )
        registration = register(fn, is_sync, name, options)
        if "name" not in options and not is_name(name):
            raise InvalidName(
                f"a task is called as its function, and {name!r} cannot be a task's name: pass @app.task(name=…)"
            )
        for lane in registration.lanes:
            check_name(lane, "task name")
        task: Task[..., Any] = SyncTask(registration) if is_sync else AsyncTask(registration)
        self._settle_in(task)
        return task

    def _settle_in(self, task: Task[..., Any]) -> None:
        """Take a task into this table."""
        self._add(task)

    def _add(self, task: Task[..., Any]) -> None:
        lanes = (task.name, *task.aliases)
        for lane in lanes:
            check_name(lane, "task name")
            if lane in self._tasks or lanes.count(lane) > 1:
                raise DuplicateTask(f"two tasks are called {lane!r}: give one of them another name=")
        for lane in lanes:
            self._tasks[lane] = task

    def _unknown(self, name: str) -> UnknownTask:
        close = difflib.get_close_matches(name, self._tasks, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return UnknownTask(
            f"no task {name!r} is registered here{hint} (app.ref({name!r}) submits to a task whose code is elsewhere)"
        )


class Tasks(Registry):
    """Tasks of a module or library that has no app of its own.

    Example::

        tasks = flowq.Tasks()


        @tasks.task(limit=3)
        async def thumbnail(path: str) -> str: ...


        app.include(tasks, prefix="img.")  # in the program that has the app

    It belongs to one app; a task that is registered after ``include`` goes there too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._where: tuple[TaskHome, Callable[[Task[..., Any]], None]] | None = None

    def move_in(self, home: TaskHome, adopt: Callable[[Task[..., Any]], None]) -> None:
        """Become part of an app (``App.include`` calls this)."""
        if self._where is not None:
            raise ConfigurationError(
                f"this collection is part of app {self._where[0].name!r} already: a task belongs to one app. To use it in "
                f"several, make the Tasks() in a function"
            )
        for task in dict.fromkeys(self._tasks.values()):
            adopt(task)
        self._where = home, adopt

    def _settle_in(self, task: Task[..., Any]) -> None:
        super()._settle_in(task)
        if self._where is not None:
            self._where[1](task)
