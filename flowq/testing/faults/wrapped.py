"""The Protocols over a ``Line``: each call goes through it to the wrapped backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from flowq._errors import FlowqError
from flowq._fleet import Survey, TtlChange
from flowq._model import (
    CancelAnswer,
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    JobStatus,
    Joined,
    LanePolicy,
    Receipt,
    Record,
    Renewed,
    Settled,
    Submission,
    Want,
)
from flowq.backends.memory.clock import loop_clock
from flowq.backends.protocol import (
    Backend,
    Capabilities,
    Fleet,
    MemberFacts,
    Renewer,
    Results,
    Standing,
    Stream,
    Timers,
)
from flowq.testing.faults.line import Line
from flowq.testing.faults.schedule import Schedule


@attrs.define(eq=False)
class _Stream:
    _inner: Stream
    _line: Line

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        return await self._line.call("submit", lambda: self._inner.submit(batch_id, batch))

    async def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        return await self._line.call("exchange", lambda: self._inner.exchange(me, ended, want))

    async def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        return await self._line.call("mine", lambda: self._inner.mine(me, known))

    async def wait_ring(self, me: Standing, block: float) -> bool:
        return await self._line.call("wait_ring", lambda: self._inner.wait_ring(me, block))

    def stop_waiting(self) -> None:
        self._inner.stop_waiting()


@attrs.define(eq=False)
class _Renewer:
    _inner: Renewer
    _line: Line

    def renew(self, me: Standing, running: int, heard: str = "") -> Renewed:
        return self._line.call_sync(lambda: self._inner.renew(me, running, heard))

    def close(self) -> None:
        self._inner.close()


@attrs.define(eq=False)
class _Fleet:
    _inner: Fleet
    _line: Line

    async def join(
        self,
        facts: MemberFacts,
        lanes: Mapping[str, LanePolicy],
        *,
        ttl: float,
        old: str | None = None,
        keep: Sequence[Delivery] = (),
        heard: str = "",
        silence: float = 0.0,
    ) -> Joined:
        return await self._line.call(
            "join",
            lambda: self._inner.join(facts, lanes, ttl=ttl, old=old, keep=keep, heard=heard, silence=silence),
        )

    async def confirm(self, me: Standing, known: Sequence[Delivery]) -> Confirmed:
        return await self._line.call("confirm", lambda: self._inner.confirm(me, known))

    async def leave(self, me: Standing) -> None:
        await self._line.call("leave", lambda: self._inner.leave(me))

    def renewer(self) -> Renewer:
        return _Renewer(self._inner.renewer(), self._line)

    async def set_limit(self, lane: str, limit: int | None) -> None:
        await self._line.call("set_limit", lambda: self._inner.set_limit(lane, limit))

    async def pause(self, lane: str, paused: bool) -> None:
        await self._line.call("pause", lambda: self._inner.pause(lane, paused))

    async def change_ttl(self, ttl: float) -> TtlChange:
        return await self._line.call("change_ttl", lambda: self._inner.change_ttl(ttl))

    def on_control(self, callback: Callable[[], None]) -> None:
        def hint() -> None:
            if not (self._line.down or self._line.frozen):  # a hint that nobody hears is lost
                callback()

        self._inner.on_control(hint)

    async def cancels(self) -> list[tuple[str, str, str]]:
        return await self._line.call("cancels", self._inner.cancels)

    async def survey(self, me: Standing) -> Survey:
        """Past the line, as ``Faulty.warnings``."""
        return await self._inner.survey(me)

    async def note(self, me: Standing, *, draining: bool, skewed: Mapping[str, int]) -> None:
        """Past the line, as ``Faulty.warnings``."""
        await self._inner.note(me, draining=draining, skewed=skewed)

    async def foreign(self) -> dict[str, str]:
        return await self._line.call("foreign", self._inner.foreign)


@attrs.define(eq=False)
class _Timers:
    _inner: Timers
    _line: Line

    async def promote(self) -> float | None:
        return await self._line.call("promote", self._inner.promote)


@attrs.define(eq=False)
class _Results:
    _inner: Results
    _line: Line

    async def wait(self, job_id: str, timeout: float | None) -> Record | None:
        return await self._line.call("wait", lambda: self._inner.wait(job_id, timeout))

    async def status(self, job_id: str) -> JobStatus:
        return await self._line.call("status", lambda: self._inner.status(job_id))

    async def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        return await self._line.call("cancel", lambda: self._inner.cancel(job_id, reason, record, ttl_ms))


class Faulty:
    """A backend behind a ``Line``. Make it in the event loop that uses it.

    Args:
        inner: the backend that does the work.
        schedule: decides what becomes of each call; None: all goes well until ``line.cut()`` or ``line.freeze()``.
        now: see ``Line``; None: the running event loop's clock.
    """

    def __init__(
        self, inner: Backend, schedule: Schedule | None = None, *, now: Callable[[], float] | None = None
    ) -> None:
        self._inner = inner
        self.line = Line(schedule, now or loop_clock())
        self._stream = _Stream(inner.stream, self.line)
        self._fleet = _Fleet(inner.fleet, self.line)
        self._timers = _Timers(inner.timers, self.line)
        self._results = _Results(inner.results, self.line)

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @property
    def stream(self) -> Stream:
        return self._stream

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def timers(self) -> Timers:
        return self._timers

    @property
    def results(self) -> Results:
        return self._results

    @property
    def generation(self) -> int:
        """The wrapped backend's, and one more for each time that the line broke."""
        return self._inner.generation + self.line.breaks

    async def wait_up(self) -> None:
        await self.line.wait_up()
        await self._inner.wait_up()

    @property
    def why_down(self) -> FlowqError | None:
        """The wrapped backend's."""
        return self._inner.why_down

    async def warnings(self) -> list[str]:
        """The wrapped backend's, past the line: no fault is worth having here, and a schedule counts the calls."""
        return await self._inner.warnings()
