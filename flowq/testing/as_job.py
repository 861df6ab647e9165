"""Calling a body directly, with the job around it that it would see in a worker."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from flowq._app import App
from flowq._context import RunningJob, current
from flowq._task import Task

S = TypeVar("S")


@contextmanager
def as_job(
    task: Task[..., Any] | str = "task",
    *,
    attempt: int = 1,
    deliveries: int = 1,
    fence: int = 1,
    headers: Mapping[str, str] | None = None,
    job_id: str = "",
    app: App[S] | None = None,
    state: S | None = None,
) -> Generator[RunningJob]:
    """Let ``flowq.current_job()`` work in the block, so that a body can be called as the function that it is.

    Nothing else of a worker is here: no limit, no timeout, no retry, no conversion of arguments. What the body raises,
    ``flowq.Retry`` and ``flowq.Reject`` too, comes out of the call. Enter and leave it in one task::

        with flowq.testing.as_job(attempt=2) as job:
            assert await bill(order) == order

    Args:
        task: what ``current_job().task`` says.
        attempt: 1 for the first run.
        deliveries: how often this attempt was handed to a worker.
        fence: of this delivery.
        headers: of the job.
        job_id: default: one that fits ``task``.
        app: makes ``app.state`` give ``state`` in the block.
        state: what the app's lifespan would have yielded.
    """
    name = task if isinstance(task, str) else task.name
    job = RunningJob(
        id=job_id or f"{name}:0-1",
        task=name,
        attempt=attempt,
        deliveries=deliveries,
        fence=fence,
        deadline=math.inf,
        headers=dict(headers or {}),
    )
    with ExitStack() as undo:
        undo.callback(current.reset, current.set(job))
        if app is not None:
            variable: Any = app.state_var
            undo.callback(variable.reset, variable.set(state))
        yield job
