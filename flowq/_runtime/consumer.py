"""One of the N tasks that run bodies, back to back. This is the hot path: a line here costs every job.

A consumer keeps one cancel scope over many jobs and leaves it only when it was cancelled, so that a late cancel never hits the
next job. Timeouts are rows of one table that the watchdog reads (``deadline``), not scopes. Between two bodies there is no
checkpoint until the shared slice of time is used up; a body that waits gives way by itself.

A consumer whose body left something behind ends, and a fresh one takes its place: a context variable that was set (tenant, log
or trace context of one job must not reach the next), or a cancel scope that was entered and not left.
"""

from __future__ import annotations

import logging
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from flowq._codec import Call, CodecError
from flowq._context import RunningJob, current
from flowq._core.batch import weight
from flowq._core.deadlines import NEVER
from flowq._model import CancelReason, Delivery, Ended, Outcome, Succeeded
from flowq._runtime.clock import ScopeMark, is_cancelled_here
from flowq._runtime.judge import Judge
from flowq._runtime.lanes import Lane

if TYPE_CHECKING:
    from flowq._runtime.floor import Floor

NOTHING = Succeeded(None, 0)


class Consumer:
    """See the module. ``delivery`` is the job in hand; ``limiter`` holds a token for it, if its lane is limited.

    The token is kept from one job to the next of the same lane and lease, as nothing waits in between: a limiter costs a microsecond.
    """

    __slots__ = (
        "clean", "deadline", "delivery", "floor", "job", "judge", "lane", "lease", "limiter", "mark", "note", "overdue", "reason",
        "scope", "started", "taint",
    )  # fmt: skip

    def __init__(self, floor: Floor, judge: Judge) -> None:
        self.floor = floor
        self.judge = judge
        self.delivery: Delivery | None = None
        self.lane: Lane | None = None
        self.limiter: anyio.CapacityLimiter | None = None
        self.lease = floor.lease
        self.job: RunningJob | None = None
        self.started = 0.0
        self.deadline = NEVER
        self.reason: CancelReason | None = None
        self.note = ""
        """What the canceller said."""
        self.overdue = False
        self.scope: anyio.CancelScope | None = None
        self.taint = ""
        """Why this consumer must not take another job."""

    def cancel(self, reason: CancelReason, note: str = "") -> None:
        """Cancel the job in hand; the first reason stays. Only while there is one, so that it cannot hit the next."""
        if self.delivery is None or self.reason is not None:
            return
        self.reason, self.note = reason, note
        if self.job is not None:
            self.job.cancel_reason = reason
        if self.scope is not None:
            self.scope.cancel()

    async def run(self) -> bool:
        """Work until cancelled from outside (returns False), or until a fresh consumer must take over (returns True)."""
        floor = self.floor
        self.clean = copy_context()
        self.mark = ScopeMark.current(floor.loop)
        floor.consumers.add(self)
        try:
            while not self.taint:
                await self._shift()
                if is_cancelled_here():
                    return False
        except RuntimeError as exc:
            # trio says so when this scope is left before the one inside it
            if self.taint != "scope":
                if "ancel scope" not in str(exc):
                    raise
                self._report_damage(
                    f"{self.lane.task_name if self.lane else '?'}, or one that ran before it here,"
                )
        finally:
            self._let_token_go()
            floor.consumers.discard(self)
        return not is_cancelled_here()

    async def _shift(self) -> None:
        """Jobs until the scope was cancelled or something was left behind."""
        floor, read, holder, clean = self.floor, self.mark.read, self.mark.holder, self.clean
        ready, lanes, now_ = floor.ready, floor.lanes, floor.loop.now
        self.reason = None
        with anyio.CancelScope() as self.scope:
            stand = read(holder)
            now = now_()
            while True:
                while not ready:
                    # a parked consumer keeps nothing of its last job
                    value = failure = call = delivery = job = token = None
                    self._let_token_go()
                    await floor.park()
                    now = now_()
                if now >= floor.lease.deadline:
                    floor.late()
                    continue
                delivery = ready.popleft()
                lane = lanes[delivery.lane]
                try:
                    call = lane.decode(delivery.raw)
                except CodecError as exc:
                    self.judge.unreadable(delivery, lane, exc)
                    continue
                if call.expires and self.judge.is_expired(delivery, lane, call):
                    continue
                job = self._open(delivery, lane, call, now)
                token = current.set(job)
                value = failure = None
                try:
                    if lane.limiter is not self.limiter:
                        await self._wait_for_token(lane)
                    value = await (
                        lane.body(*call.args, **call.kwargs) if call.kwargs else lane.body(*call.args)
                    )
                except BaseException as exc:  # noqa: BLE001 - whatever a body raises is its job's end, not the worker's
                    failure = exc
                current.reset(token)
                now = now_()
                is_astray = read(holder) is not stand
                if failure is None and self.reason is None:
                    self._succeed(delivery, lane, call, value, now)
                else:
                    self._end(delivery, lane, call, now, value, failure, is_astray)
                if is_astray or self.is_spent or self._has_changed(clean):
                    self._let_token_go()
                    self._note_taint(lane, is_astray, stand)
                    return
                if now >= floor.slice_end:
                    self._let_token_go()
                    # one gives way for all: who resumes in this very step goes on
                    floor.slice_end = now + floor.slice
                    await anyio.lowlevel.checkpoint()
                    now = now_()
                    floor.slice_end = now + floor.slice

    def _open(self, delivery: Delivery, lane: Lane, call: Call, now: float) -> RunningJob:
        """Take the job in hand: its token if one is free, its row in the table of deadlines, and what its body sees of it."""
        floor = self.floor
        self.delivery, self.lane, self.started = delivery, lane, now
        floor.running += 1
        limiter = lane.limiter
        if limiter is not self.limiter or self.lease is not floor.lease:
            self._let_token_go()
            if limiter is not None:
                try:
                    limiter.acquire_on_behalf_of_nowait(self)
                    self.limiter = limiter
                    self.lease = floor.lease
                except anyio.WouldBlock:
                    self.limiter = None
        if call.timeout is None:
            deadline = now + lane.timeout
        else:
            deadline = now + call.timeout / 1000 if call.timeout else NEVER
        self.deadline = deadline
        if deadline < floor.watch_at:
            floor.look_at(deadline)
        self.job = job = RunningJob(
            id=call.id or f"{lane.name}:{delivery.entry}",
            task=lane.task_name,
            attempt=call.attempt,
            deliveries=delivery.n,
            fence=delivery.fence,
            deadline=deadline + floor.loop.offset,
        )
        if call.headers:
            job.headers = call.headers
        return job

    async def _wait_for_token(self, lane: Lane) -> None:
        """A body of an earlier lease has not left yet: this one waits for its token."""
        limiter = lane.limiter
        if limiter is not None:
            await limiter.acquire_on_behalf_of(self)
            self.limiter = limiter
            self.lease = self.floor.lease

    def _let_token_go(self) -> None:
        """Before whatever may wait outside a body: a token is never held by one who does not work."""
        if self.limiter is not None:
            self.limiter.release_on_behalf_of(self)
            self.limiter = None
            if self.lease.over:
                self.floor.left_late()

    def _let_go(self, lane: Lane, now: float) -> int:
        """The job is in hand no more. Returns the milliseconds that it took."""
        floor, took = self.floor, now - self.started
        self.delivery = None
        self.deadline = NEVER
        floor.running -= 1
        if self.limiter is not None or lane.sync:
            floor.tokens_back = True
        lane.ended += 1
        lane.spent += took
        return int(took * 1000)

    def _succeed(self, delivery: Delivery, lane: Lane, call: Call, value: object, now: float) -> None:
        floor, job = self.floor, self.job
        run_ms = self._let_go(lane, now)
        outcome: Outcome = NOTHING
        if lane.keeps_results:
            outcome = self.judge.result(delivery, lane, call, value)
            floor.heavy += weight(outcome)
        assert job is not None
        key = f"{lane.name}:{call.key}" if call.key else ""
        floor.ended.append(Ended(delivery, outcome, job.id, key, call.id != "", run_ms))
        if not floor.turn.is_set:
            floor.turn.set()

    def _end(
        self,
        delivery: Delivery,
        lane: Lane,
        call: Call,
        now: float,
        value: object,
        failure: BaseException | None,
        is_astray: bool,
    ) -> None:
        """A body raised, or was cancelled; or both."""
        reason = self.reason
        self.overdue = False
        if failure is None:
            # It returned, so it has succeeded, however late its cancel; but what is not ours any more is not written.
            if delivery.fence in self.floor.known:
                self._succeed(delivery, lane, call, value, now)
            else:
                self._let_go(lane, now)
                self.floor.turn.set()
            return
        run_ms = self._let_go(lane, now)
        if reason is None and not is_astray and is_cancelled_here():
            reason = self.reason = "shutdown"
        if is_astray and reason is None and isinstance(failure, anyio.get_cancelled_exc_class()):
            reason = "shutdown"  # the scope that it left entered has struck: handed back
        self.judge.raised(delivery, lane, call, failure, reason, note=self.note, run_ms=run_ms)
        if reason is None and isinstance(failure, anyio.get_cancelled_exc_class()):
            self.taint = "cancellation"
        self.floor.turn.set()

    @property
    def is_spent(self) -> bool:
        """Was the scope cancelled, or must this consumer not go on?"""
        return self.reason is not None or self.taint != ""

    @staticmethod
    def _has_changed(clean: Context) -> bool:
        """Has the body left a context variable behind?"""
        try:
            return copy_context() != clean
        except Exception:  # noqa: BLE001 - values are compared, and a user's __eq__ may raise anything
            return True

    def _note_taint(self, lane: Lane, is_astray: bool, stand: object) -> None:
        if is_astray:
            self.taint = "scope"
            self._report_damage(lane.task_name)
            self.mark.repair(stand)
        elif not self.taint and self._has_changed(self.clean):
            self.taint = "context"
            self.floor.events.say(
                logging.DEBUG, "context.leaked", "task %s set a context variable and left it set; its consumer is replaced",
                lane.task_name, task=lane.task_name,
            )  # fmt: skip

    def _report_damage(self, guilty: str) -> None:
        self.floor.events.say(
            logging.ERROR, "scope.damaged", "task %s left a cancel scope entered (an async generator that was not closed? use "
            "contextlib.aclosing); its consumer is replaced", guilty, task=guilty,
        )  # fmt: skip
