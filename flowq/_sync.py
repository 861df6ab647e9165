"""Submitting without an event loop: web views, scripts, and plain ``def`` bodies.

What this room does: the same submits, results and cancellations as plain blocking calls. What it will not do: coalesce, or
need a loop. On Redis it speaks through redis-py's synchronous client; ``memory://`` lives inside the app's event loop, so there
a call goes through that loop.
"""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import EventLoopToken, current_token

from flowq._chunks import chunks, submission_of
from flowq._clock import monotonic_clock
from flowq._errors import FlowqError, NotEntered, OutcomeUnknown, SubmitUnknown, Unavailable
from flowq._job import JobFacts, Kind
from flowq._model import CancelAnswer, JobStatus, Receipt, Record, Submission
from flowq._options import seconds
from flowq._producer import RESEND_WINDOW
from flowq._task import Bound, Registration

if TYPE_CHECKING:
    from flowq._app import App
    from flowq._session import Session
    from flowq.backends.protocol import Backend

R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_now = monotonic_clock()


def in_loop(token: EventLoopToken) -> bool:
    """Whether the caller runs in this very event loop."""
    try:
        return current_token() == token
    except anyio.NoEventLoopError:
        return False


class SyncPlace(Protocol):
    """A place for jobs in blocking calls; see ``flowq.backends.protocol`` for what each guarantees. Thread-safe."""

    def submit(self, batch_id: str, batch: list[Submission]) -> list[Receipt]: ...
    def wait(self, job_id: str, timeout: float | None) -> Record | None: ...
    def status(self, job_id: str) -> JobStatus: ...
    def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer: ...
    def close(self) -> None: ...


class ThroughLoop:
    """A place inside the event loop in which the app is open: each call is made there, and waited for here."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    def _call(self, fn: Callable[[Backend], Awaitable[T]]) -> T:
        session = self._session()
        if in_loop(session.token):
            raise NotEntered(
                "this is the event loop itself, which must not block: await task.enqueue(…) here"
            )

        async def call() -> T:
            return await fn(session.backend)

        return anyio.from_thread.run(call, token=session.token)

    def submit(self, batch_id: str, batch: list[Submission]) -> list[Receipt]:
        return self._call(lambda backend: backend.stream.submit(batch_id, batch))

    def wait(self, job_id: str, timeout: float | None) -> Record | None:
        return self._call(lambda backend: backend.results.wait(job_id, timeout))

    def status(self, job_id: str) -> JobStatus:
        return self._call(lambda backend: backend.results.status(job_id))

    def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        return self._call(lambda backend: backend.results.cancel(job_id, reason, record, ttl_ms))

    def close(self) -> None:
        """It holds nothing."""


class SyncJob(JobFacts[R_co]):
    """A ``Job`` whose methods block."""

    def __init__(self, job_id: str, kind: Kind, place: SyncPlace, *, created: bool = True) -> None:
        super().__init__(job_id, kind, created=created)
        self._place = place

    def result(self, timeout: float | datetime.timedelta | None = None) -> R_co:
        """Block until the job has ended and return what its body returned. By notification, no polling.

        Args:
            timeout: seconds; None waits for ever, 0 only looks.

        Raises:
            As ``Job.result``.
        """
        self._check_wanted()
        return self._value(
            self._place.wait(self._id, None if timeout is None else seconds(timeout, "result(timeout=)"))
        )

    def status(self) -> JobStatus:
        """Where the job is now."""
        return self._place.status(self._id) if self._known() else JobStatus.UNKNOWN

    def cancel(self, reason: str = "", *, wait: bool = False) -> CancelAnswer:
        """Cancel the job; see ``Job.cancel``."""
        if not self._known():
            return CancelAnswer.UNKNOWN
        record, ttl_ms = self._cancellation(reason)
        answer = self._place.cancel(self._id, reason, record, ttl_ms)
        if wait and answer is CancelAnswer.REQUESTED:
            self._place.wait(self._id, None)
        return answer


class SyncProducer:
    """What ``app.sync()`` gives. Thread-safe; keep one per process, or use it as a context manager; it works on after a fork."""

    def __init__(self, app: App[Any], place: SyncPlace, *, timeout: float) -> None:
        self._app = app
        self._place = place
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; it may be used again all the same."""
        self._place.close()

    def enqueue(self, bound: Bound[R]) -> SyncJob[R]:
        """Store a job: ``producer.enqueue(resize.bind("a.png"))``.

        Raises:
            Unavailable: surely not stored. SubmitUnknown: may be stored; ``producer.resend(err)`` is safe. ServerFull: refused.
        """
        return cast("SyncJob[R]", self._send(_SyncBatch([bound]))[0])

    def enqueue_many(self, bounds: Iterable[Bound[R]]) -> list[SyncJob[R]]:
        """Store many, in chunks of 500; see ``App.enqueue_many``. ``resend`` after it sends the one chunk in question."""
        accepted: list[SyncJob[R]] = []
        try:
            for chunk in chunks(bounds):
                accepted += self._send(_SyncBatch(chunk))
        except FlowqError as exc:
            exc.accepted = tuple(accepted)
            raise
        return accepted

    def resend(self, error: SubmitUnknown) -> list[SyncJob[Any]]:
        """Send again what may have been lost; it never makes a second copy. Returns the jobs of that submit.

        Raises:
            Unavailable: too late, see there. Else as ``enqueue``. TypeError: the error is not of a synchronous producer.
        """
        if not isinstance(error, _SyncUnknown):
            raise TypeError("this error is an asynchronous producer's: await err.resend()")
        if _now() - error.batch.since > RESEND_WINDOW:
            raise Unavailable(
                f"first sent more than {RESEND_WINDOW:.0f} s ago: sending it again could store its jobs twice"
            )
        return self._send(error.batch)

    def job(self, job_id: str) -> SyncJob[Any]:
        """The handle of a job that was submitted before, here or elsewhere."""
        return SyncJob(job_id, self._app.kind_of(job_id), self._place)

    def _send(self, batch: _SyncBatch) -> list[SyncJob[Any]]:
        until = time.monotonic() + self._timeout
        pause = 0.05
        while (receipts := self._try(batch)) is None:
            if time.monotonic() + pause >= until:
                assert batch.error is not None
                if batch.maybe_stored:
                    raise self._unknown(batch, batch.error) from batch.error
                patience = f"{self._timeout:g} s (enqueue_timeout)"
                raise Unavailable(
                    f"nothing was stored: the server could not be reached for {patience}: {batch.error}"
                ) from batch.error
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        pairs = zip(batch.kinds, receipts, strict=True)
        return [SyncJob(r.job_id, kind, self._place, created=r.created) for kind, r in pairs]

    def _try(self, batch: _SyncBatch) -> list[Receipt] | None:
        try:
            return self._place.submit(batch.batch_id, batch.submissions)
        except OutcomeUnknown as exc:
            batch.maybe_stored, batch.error = True, exc
        except Unavailable as exc:
            batch.error = exc
        except FlowqError as exc:
            if batch.maybe_stored:
                raise self._unknown(batch, exc) from exc
            raise
        return None

    def _unknown(self, batch: _SyncBatch, error: FlowqError) -> FlowqError:
        return _SyncUnknown(
            f"the jobs may be stored: {error}. `producer.resend(err)` is safe: it never makes a second copy",
            batch,
            self.resend,
        )


class _SyncBatch:
    def __init__(self, bounds: list[Bound[Any]]) -> None:
        self.batch_id = secrets.token_hex(12)
        self.submissions = [submission_of(bound) for bound in bounds]
        self.kinds: list[Registration] = [bound.registration for bound in bounds]
        self.since = _now()
        self.maybe_stored = False
        self.error: FlowqError | None = None


class _SyncUnknown(SubmitUnknown):
    def __init__(
        self, message: str, batch: _SyncBatch, resend: Callable[[SubmitUnknown], list[SyncJob[Any]]]
    ) -> None:
        async def in_a_thread() -> list[SyncJob[Any]]:
            return await anyio.to_thread.run_sync(resend, self)

        super().__init__(message, in_a_thread)
        self.batch = batch
