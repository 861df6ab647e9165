"""What a worker was asked to be: the arguments of ``flowq.run``, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import attrs

from flowq._errors import ConfigurationError
from flowq._model import LanePolicy
from flowq._options import TaskPolicy
from flowq._task import Task

OnOverrun = Callable[[int], object]
"""Called in the keeper's thread with the number of limited bodies that outlived their lease."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """See ``flowq.run`` for what each means; all durations in seconds."""

    concurrency: int = 32
    threads: int = 16
    burst: bool = False
    burst_wait: float = 0.0
    grace: float = 20.0
    cancel_grace: float = 5.0
    start_timeout: float = 30.0
    slice: float = 0.002
    max_loop_stall: float = 60.0
    tasks: Iterable[str] | None = None
    exclude: Iterable[str] = ()
    handle_signals: bool = False
    hard_stop: bool = False
    on_lease_overrun: OnOverrun | None = None
    keeper: Literal["thread", "task"] = "thread"
    """``task`` for simulations: no thread of ours runs then, and sync bodies run in the loop."""
    skew_window: float = 900.0

    def __attrs_post_init__(self) -> None:
        for name in ("concurrency", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"run({name}={value!r}): a whole number, 1 or more")
        for name in ("burst_wait", "grace", "cancel_grace", "start_timeout", "slice", "max_loop_stall"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or math.isnan(value)
                or value < 0
            ):
                raise ConfigurationError(f"run({name}={value!r}): seconds, 0 or more")
        for name in ("tasks", "exclude"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(
                    f"run({name}={getattr(self, name)!r}): a list of task names, not one string"
                )

    def in_virtual_time(self) -> RunOptions:
        """The same without a thread of ours: a virtual clock waits for no thread."""
        return attrs.evolve(self, keeper="task")


class Served(Protocol):
    """An app, as far as a worker needs it beside what it opens and enters."""

    @property
    def name(self) -> str: ...
    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]: ...


def pool_of(app: Served, options: RunOptions) -> dict[str, Task[..., Any]]:
    """The lanes that this worker serves, each with its task; a name that was given stands for its aliases, too.

    Raises:
        ConfigurationError: a name that is no task, or nothing is left to serve.
    """
    only = None if options.tasks is None else _lanes(app, options.tasks, "tasks")
    excluded = _lanes(app, options.exclude, "exclude")
    pool = {
        lane: task
        for lane, task in app.tasks.items()
        if (only is None or lane in only) and lane not in excluded
    }
    if not pool:
        left = f"tasks= and exclude= (--only, --exclude) leave none of {', '.join(sorted(app.tasks))}"
        raise ConfigurationError(
            f"app {app.name!r}: this worker would serve nothing: "
            + (
                left
                if app.tasks
                else "register a task with @app.task, or name the modules that do in App(imports=…)"
            )
        )
    return pool


def _lanes(app: Served, names: Iterable[str], what: str) -> set[str]:
    lanes: set[str] = set()
    for name in names:
        task = app.tasks.get(name)
        if task is None:
            known = ", ".join(sorted(app.tasks)) or "none"
            raise ConfigurationError(f"run({what}=…): app {app.name!r} has no task {name!r}; it has {known}")
        lanes |= {task.name, *task.aliases} if name == task.name else {name}
    return lanes


def lane_policy(task: Task[..., Any]) -> LanePolicy:
    """What a member says of a lane when it joins."""
    policy: TaskPolicy = task.policy
    return LanePolicy(policy.limit, policy.max_crashes, task.is_sync, round(policy.failure_ttl * 1000))
