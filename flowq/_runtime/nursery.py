"""Nurseries with the manners of this room: one plain error instead of a group, and children that outlive a cancellation.

Nobody outside shall see the groups of our own nurseries: what a worker dies of is one exception.

On trio a KeyboardInterrupt strikes whatever task runs Python at that moment. Our own tasks are protected from it, or a Ctrl-C would
now and then cost the connection, the membership and the jobs in hand; it then reaches the main task, as a cancellation does. Bodies
are not protected (``assembly``): one that computes would hear of it only at its end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus
from trio.lowlevel import enable_ki_protection

from flowq._errors import FlowqError

T = TypeVar("T")


@asynccontextmanager
async def open_nursery() -> AsyncGenerator[TaskGroup]:
    """A task group that raises the one exception that counts: an interrupt, else an error of ours, else the first."""
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        error = most_telling(group)
    else:
        return
    raise error  # out here, so that it keeps its own cause and has no group for a context


def most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception to raise in place of a nursery's group: its direct members only, a user's own group stays whole."""
    cancelled = anyio.get_cancelled_exc_class()
    members = [member for member in group.exceptions if not isinstance(member, cancelled)]
    for kind in (KeyboardInterrupt, FlowqError):
        for member in members:
            if isinstance(member, kind):
                return member
    return members[0] if members else group.exceptions[0]


@enable_ki_protection
async def guarded(function: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Run one of our own tasks: what is no error of ours is a defect, and is said to be one."""
    try:
        await function(*args)
    except FlowqError:
        raise
    except Exception as exc:
        raise FlowqError(
            f"defect of flowq in {getattr(function, '__qualname__', function)}: {exc!r}"
        ) from exc


class Shelter:
    """Children of a nursery that a cancellation from outside does not reach: they end when ``close`` is called."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._scopes: list[anyio.CancelScope] = []

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any, name: str) -> None:
        self._tasks.start_soon(self._sheltered, function, args, name=name)

    @enable_ki_protection
    async def _sheltered(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            await guarded(function, *args)

    async def open(self, opening: Callable[[], AbstractAsyncContextManager[T]], *, name: str) -> T:
        """Keep a context manager open in such a child, until ``close``.

        Raises:
            Whatever kept it from opening. What it raises later ends the nursery.
        """
        opened: T = await self._tasks.start(self._hold, opening, name=name)
        return opened

    @enable_ki_protection
    async def _hold(
        self, opening: Callable[[], AbstractAsyncContextManager[T]], *, task_status: TaskStatus[T]
    ) -> None:
        # Cancelled before it was open it goes like any other task; from then on it is out of reach.
        with anyio.CancelScope() as scope:
            async with opening() as opened:
                # Cancelled in the very step that opened it, nobody takes it over: on trio ``start`` would wait for ever for this child
                # that no cancellation reaches.
                await anyio.lowlevel.checkpoint_if_cancelled()
                scope.shield = True
                self._scopes.append(scope)
                task_status.started(opened)
                await anyio.sleep_forever()

    def close(self) -> None:
        """Cancel them, each in its own time."""
        for scope in self._scopes:
            scope.cancel()
