"""A stage for the worker: one memory server, apps whose workers reach it over a line that can be cut, on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus
from trio.testing import MockClock

import flowq
from flowq._runtime.options import RunOptions
from flowq._runtime.worker import Worker, serve
from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.protocol import Backend, OpenBackend
from flowq.testing.faults import Faulty, Line, Schedule
from tests.backends.virtual_loop import VirtualLoop


class StageApp(flowq.App[Any]):
    """An app on the stage's server. Each client of it, a worker's too, has a line of its own: ``lines``, in the order of opening."""

    def __init__(self, server: MemoryServer, *, schedule: Schedule | None = None, **options: Any) -> None:
        super().__init__("stage", "memory://", **options)
        self.server = server
        self.schedule = schedule
        self.lines: list[Line] = []

    def opener(self) -> OpenBackend:
        @asynccontextmanager
        async def opening() -> AsyncIterator[Backend]:
            async with open_memory(self.server) as backend:
                faulty = Faulty(backend, self.schedule)
                self.lines.append(faulty.line)
                yield faulty

        return opening

    @property
    def line(self) -> Line:
        """The one of the worker that was started last."""
        return self.lines[-1]


class Stage:
    """What a test starts workers with."""

    def __init__(self, tasks: TaskGroup, *, is_virtual: bool) -> None:
        self.tasks = tasks
        self.is_virtual = is_virtual
        self.server = MemoryServer()
        self.apps: list[StageApp] = []
        self._scopes: dict[str, anyio.CancelScope] = {}

    def app(self, **options: Any) -> StageApp:
        self.apps.append(StageApp(self.server, **options))
        return self.apps[-1]

    async def start(self, app: StageApp, **options: Any) -> Worker:
        """Start a worker in the stage's nursery; see ``RunOptions``."""
        if self.is_virtual:
            options.setdefault("keeper", "task")
        worker: Worker = await self.tasks.start(partial(self._serve, app, RunOptions(**options)))
        return worker

    async def _serve(self, app: StageApp, options: RunOptions, *, task_status: Any) -> None:
        with anyio.CancelScope() as scope:
            await serve(app, options, task_status=_Status(self, scope, task_status))

    def started(self, worker: Worker, scope: anyio.CancelScope) -> None:
        self._scopes[worker.id] = scope

    def cancel(self, worker: Worker) -> None:
        """Cancel the scope around the worker, as an embedding program would."""
        self._scopes[worker.id].cancel()

    def kill(self, app: StageApp, worker: Worker) -> None:
        """As a SIGKILL: from now on nothing of this worker reaches the server."""
        app.line.cut()
        self.cancel(worker)


class _Status:
    """A TaskStatus that tells the stage, too."""

    def __init__(self, stage: Stage, scope: anyio.CancelScope, status: TaskStatus[Worker]) -> None:
        self._stage, self._scope, self._status = stage, scope, status

    def started(self, value: Worker) -> None:
        self._stage.started(value, self._scope)
        self._status.started(value)


@pytest.fixture
async def stage(anyio_backend: object) -> AsyncIterator[Stage]:
    async with anyio.create_task_group() as tasks:
        yield Stage(tasks, is_virtual=isinstance(anyio_backend, tuple))
        tasks.cancel_scope.cancel()


async def eventually(condition: Any, seconds: float = 5.0) -> None:
    """Wait until ``condition()`` holds."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what it waits for sets no event
            await anyio.sleep(0.002)


VIRTUAL = [
    pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="trio-virtual"),
    pytest.param(("asyncio", {"loop_factory": VirtualLoop}), id="asyncio-virtual"),
]
"""For ``@pytest.mark.parametrize("anyio_backend", VIRTUAL)``: hours pass in milliseconds, and no thread may run."""

virtually = pytest.mark.parametrize("anyio_backend", VIRTUAL)
