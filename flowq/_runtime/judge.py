"""From an ending to what is written: catches what ``_core.verdict`` and ``_core.outcome`` decide about, and says it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import anyio
import attrs

from flowq._clock import Now
from flowq._codec import BadResult, Call, CodecError, NewerFormat, Skew
from flowq._core.outcome import NO_FAILURE, Failure, Job, dead, ended, to_outcome
from flowq._core.retry import Attempts, leaves, skew_wait
from flowq._core.verdict import (
    Bury,
    GiveBack,
    RunAgain,
    StrayCancellation,
    Verdict,
    describe,
    judge,
    judge_skew,
)
from flowq._errors import PayloadTooLarge
from flowq._model import CancelReason, Delivery, Outcome, Succeeded
from flowq._runtime.events import JOB, Events, printable
from flowq._runtime.failure import other_loop, tell
from flowq._runtime.floor import Floor
from flowq._runtime.lanes import Lane


class Judge:
    """One per worker. What it decides goes to the floor's ``ended``."""

    def __init__(
        self, floor: Floor, *, skew_window: float, max_payload: int, draw: Callable[[], float] = random.random
    ) -> None:
        self._floor = floor
        self._events: Events = floor.events
        self._wall: Now = floor.loop.wall
        self._skew_window = skew_window
        self._max_payload = max_payload
        self._draw = draw
        self._foreign = (asyncio.CancelledError, anyio.get_cancelled_exc_class())

    # --- before the body ----------------------------------------------------------------------------------------------------

    def unreadable(self, delivery: Delivery, lane: Lane, error: CodecError) -> None:
        """The envelope cannot be run: too new or not fitting comes again, anything else is buried."""
        job = Job(delivery, error.call)
        if isinstance(error, NewerFormat):
            verdict: Verdict = RunAgain(
                skew_wait(job.age, self._draw()), "skew", counts=False, reason=str(error)
            )
        elif isinstance(error, Skew):
            verdict = judge_skew(job.age, self._skew_window, str(error), self._draw())
        else:
            verdict = Bury("undecodable", str(error))
        self._write(verdict, job, lane, Failure(type(error).__qualname__, str(error)), run_ms=0)

    def is_expired(self, delivery: Delivery, lane: Lane, call: Call) -> bool:
        """Bury it if the moment after which it must not start is past."""
        late = self._wall() - call.expires / 1000
        if late < 0:
            return False
        self._write(
            Bury("expired", f"it was not started in time, {late:.1f} s too late"),
            Job(delivery, call),
            lane,
            NO_FAILURE,
            run_ms=0,
        )
        return True

    # --- after the body -----------------------------------------------------------------------------------------------------

    def result(self, delivery: Delivery, lane: Lane, call: Call, value: object) -> Outcome:
        """A success with its record; a dead letter if the value cannot be stored: the body has run, so it does not run again."""
        try:
            record = lane.codec.encode_result(value, limit=self._max_payload)
        except (BadResult, PayloadTooLarge) as exc:
            self._say(Bury("error", str(exc)), Job(delivery, call), lane, None)
            ttl_ms = round(lane.policy.failure_ttl * 1000)
            return dead(
                Bury("error", str(exc)),
                Job(delivery, call),
                Failure(type(exc).__qualname__, str(exc)),
                ttl_ms,
            )
        return Succeeded(record, lane.result_ttl_ms if call.result_ttl is None else call.result_ttl)

    def raised(
        self,
        delivery: Delivery,
        lane: Lane,
        call: Call,
        error: BaseException,
        cancelled: CancelReason | None,
        *,
        note: str,
        run_ms: int,
    ) -> Verdict:
        """A body raised. Returns the verdict, which has been written."""
        job = Job(delivery, call)
        if cancelled is None and any(isinstance(leaf, self._foreign) for leaf in leaves(error)):
            stray = StrayCancellation("the body raised a cancellation that nobody had asked for")
            stray.__cause__ = error
            error = stray.with_traceback(error.__traceback__)
        timeout = lane.policy.timeout if call.timeout is None else call.timeout / 1000
        attempts = Attempts(call.attempt, call.retries, timeout)
        verdict = judge(lane.policy, attempts, error, cancelled, self._draw())
        if isinstance(verdict, GiveBack):
            interrupt = next((leaf for leaf in leaves(error) if isinstance(leaf, KeyboardInterrupt)), None)
            if interrupt is not None:
                self._floor.interrupt(interrupt)
        failure = tell(error) if isinstance(verdict, Bury) else NO_FAILURE
        if isinstance(verdict, Bury) and verdict.kind == "timeout":
            # the traceback tells where it was; type and message would be those of our own cancellation
            failure = attrs.evolve(failure, type="TimeoutError", message=verdict.reason)
        if isinstance(verdict, Bury | RunAgain) and (cure := other_loop(error, self._floor.loop.kind)):
            verdict = attrs.evolve(verdict, reason=f"{verdict.reason or describe(error)} ({cure})")
            if isinstance(verdict, Bury):
                failure = attrs.evolve(failure, message=f"{failure.message} ({cure})")
        self._write(verdict, job, lane, failure, run_ms=run_ms, note=note, error=error)
        return verdict

    def _write(
        self,
        verdict: Verdict,
        job: Job,
        lane: Lane,
        failure: Failure,
        *,
        run_ms: int,
        note: str = "",
        error: BaseException | None = None,
    ) -> None:
        delivery = job.delivery
        if delivery.fence not in self._floor.known:
            return
        outcome = to_outcome(verdict, job, failure, failure_ttl=lane.policy.failure_ttl, cancel_note=note)
        if outcome is None:
            return
        self._say(verdict, job, lane, error)
        one = ended(job, outcome, run_ms)
        self._floor.end(delivery, outcome, one.job_id, one.key, one.moved, run_ms)

    def _say(self, verdict: Verdict, job: Job, lane: Lane, error: BaseException | None) -> None:
        if isinstance(verdict, RunAgain):
            event = "skew" if verdict.why == "skew" else "job.retry"
            if verdict.why == "skew":
                self._floor.skewed[lane.name] = self._floor.skewed.get(lane.name, 0) + 1
            said = verdict.reason or (verdict.why if error is None else describe(error))
            self._events.say(
                logging.WARNING, event, "%s (attempt %d) runs again in %.1f s: %s", job.id, job.call.attempt, verdict.delay, printable(said),
                job=job.id, task=lane.task_name, attempt=job.call.attempt, delay=verdict.delay, why=verdict.why,
            )  # fmt: skip
        elif isinstance(verdict, Bury):
            self._events.say(
                logging.ERROR, "job.dead", "%s is a dead letter (%s, attempt %d): %s; to run it again: flowq dead replay %s",
                job.id, verdict.kind, job.call.attempt, printable(verdict.reason), job.id,
                job=job.id, task=lane.task_name, attempt=job.call.attempt, kind=verdict.kind, reason=printable(verdict.reason),
                error=error if JOB.isEnabledFor(logging.DEBUG) else None,
            )  # fmt: skip
