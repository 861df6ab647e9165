"""One client's way to the server: up, cut or frozen; and what is still under way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import attrs

from flowq._errors import FlowqError, OutcomeUnknown, Unavailable
from flowq.testing.faults.schedule import (
    Call,
    Delay,
    DropReply,
    DropRequest,
    Fault,
    Freeze,
    Late,
    Outage,
    Schedule,
    Script,
)

T = TypeVar("T")


@attrs.define(eq=False)
class _LateRequest:
    calls: int
    operation: Callable[[], Awaitable[Any]]


class Line:
    """Every call of one client passes here.

    Args:
        schedule: asked before each call.
        now: monotonic seconds of the clock that outages are measured by; any thread may call it.
    """

    def __init__(self, schedule: Schedule | None, now: Callable[[], float]) -> None:
        self._schedule: Schedule = schedule or Script()
        self._now = now
        self._calls: Counter[str] = Counter()
        self._down_until = -math.inf
        self._frozen_until = -math.inf
        self._changed = anyio.Event()
        self._under_way: set[anyio.CancelScope] = set()
        self._late: list[_LateRequest] = []
        self.breaks = 0
        """How often the connection broke."""
        self.happened: list[tuple[Call, Fault]] = []
        """The faults so far, for a failing test to print."""

    # By hand.

    def cut(self, seconds: float = math.inf) -> None:
        """Break the connection. What is under way ends in ``OutcomeUnknown``; new calls are ``Unavailable`` for so long."""
        self._down_until = max(self._down_until, self._now() + seconds)
        self.breaks += 1
        for scope in list(self._under_way):
            scope.cancel()
        self._wake()

    def freeze(self, seconds: float = math.inf) -> None:
        """Stand still for so long: calls begin, and those under way return, only when it is over."""
        self._frozen_until = max(self._frozen_until, self._now() + seconds)

    def mend(self) -> None:
        """End an outage or a freeze now."""
        self._down_until = self._frozen_until = -math.inf
        self._wake()

    async def deliver_late(self) -> None:
        """Let every request arrive that is still late."""
        late, self._late = self._late, []
        for request in late:
            await _unheard(request.operation)

    @property
    def down(self) -> bool:
        return self._now() < self._down_until

    @property
    def frozen(self) -> bool:
        return self._now() < self._frozen_until

    # Calls.

    async def call(self, name: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Do it, unless the schedule or the state of the line will have it otherwise."""
        fault = self._next(name)
        await anyio.lowlevel.checkpoint()
        await self._deliver_due()
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                return await self._pass(name, operation, fault)
            finally:
                self._under_way.discard(scope)
        raise OutcomeUnknown(f"the connection was cut while {name!r} was under way: it may have happened")

    async def _pass(self, name: str, operation: Callable[[], Awaitable[T]], fault: Fault | None) -> T:
        match fault:
            case Outage(seconds):
                self._under_way.clear()  # this very call fails as a new one does: nothing was sent yet
                self.cut(seconds)
            case Freeze(seconds):
                self.freeze(seconds)
            case Delay(there=there):
                await anyio.sleep(there)
            case _:
                pass
        await self._reach(name)
        match fault:
            case DropRequest():
                self._broke(name)
            case Late(calls):
                self._late.append(_LateRequest(calls, operation))
                self._broke(name)
            case DropReply():
                await operation()
                self._broke(name)
            case _:
                pass
        answer = await operation()
        if isinstance(fault, Delay):
            await anyio.sleep(fault.back)
        await self._thawed()
        return answer

    def call_sync(self, operation: Callable[[], T]) -> T:
        """The same for the renewer, which cannot wait: on a frozen line its time runs out, and a delay is none."""
        name = "renew"
        fault = self._next(name)
        match fault:
            case Outage(seconds):
                self.cut(seconds)
            case Freeze(seconds):
                self.freeze(seconds)
            case _:
                pass
        if self.frozen:
            raise OutcomeUnknown("no reply to 'renew' in time: the line is frozen")
        if self.down:
            raise Unavailable("the line is cut: nothing was sent")
        match fault:
            case DropReply():
                operation()
                raise OutcomeUnknown("the reply to 'renew' was lost: it may have happened")
            case DropRequest() | Late():
                raise OutcomeUnknown("the reply to 'renew' was lost: it may have happened")
            case _:
                return operation()

    async def wait_up(self) -> None:
        """Wait until the line is neither cut nor frozen."""
        while self.down or self.frozen:
            await self._pause(max(self._down_until, self._frozen_until))

    def _next(self, name: str) -> Fault | None:
        self._calls[name] += 1
        call = Call(name, self._calls[name])
        fault = self._schedule.fault(call)
        if fault is not None:
            self.happened.append((call, fault))
        return fault

    async def _reach(self, name: str) -> None:
        await self._thawed()
        if self.down:
            raise Unavailable(f"the line is cut: {name!r} was not sent")

    async def _thawed(self) -> None:
        while self.frozen:
            await self._pause(self._frozen_until)

    async def _pause(self, until: float) -> None:
        changed = self._changed
        with anyio.move_on_after(until - self._now()):
            await changed.wait()

    def _broke(self, name: str) -> None:
        self.breaks += 1
        raise OutcomeUnknown(f"the reply to {name!r} was lost: it may have happened")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _deliver_due(self) -> None:
        due = [request for request in self._late if request.calls <= 0]
        self._late = [request for request in self._late if request.calls > 0]
        for request in self._late:
            request.calls -= 1
        for request in due:
            await _unheard(request.operation)


async def _unheard(operation: Callable[[], Awaitable[object]]) -> None:
    with suppress(FlowqError):  # a refusal, too, is a reply that nobody hears
        await operation()
