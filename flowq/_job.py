"""A job as its submitter holds it: wait for it, ask for it, cancel it.

What this room does: turns a stored record into a value or an error of ours. What it will not do: run jobs (see ``_context`` for
what a body knows of itself).
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, cast

import anyio.lowlevel
import msgspec

from flowq._codec import TaskCodec, encode_record
from flowq._errors import FailureKind, JobCancelled, JobCrashed, JobFailed, JobTimedOut, ResultUnavailable
from flowq._model import CancelAnswer, JobStatus, Record
from flowq._options import milliseconds, seconds

if TYPE_CHECKING:
    from flowq._session import Session

R_co = TypeVar("R_co", covariant=True)

_FAILURES: dict[str, type[JobFailed]] = {"timeout": JobTimedOut, "crashed": JobCrashed}
_untyped = msgspec.json.Decoder().decode


class Kind(Protocol):
    """What a handle knows of its job's task."""

    @property
    def lanes(self) -> tuple[str, ...]: ...
    @property
    def keeps_results(self) -> bool: ...
    @property
    def failure_ttl(self) -> float: ...
    @property
    def reader(self) -> TaskCodec | None: ...


class Home(Protocol):
    """The app, as far as a handle needs it."""

    def session(self) -> Session: ...


class JobFacts(Generic[R_co]):
    """What the asynchronous and the synchronous handle share: who the job is, and what its record means."""

    def __init__(self, job_id: str, kind: Kind, *, created: bool = True) -> None:
        self._id = job_id
        self._kind = kind
        self._created = created

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and cast("JobFacts[Any]", other)._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    @property
    def id(self) -> str:
        """``<task>:<ms>-<seq>``: good for ``task.job(id)``, ``app.job(id)`` and ``flowq show``, in any process."""
        return self._id

    @property
    def created(self) -> bool:
        """False: ``key=`` was taken, and this is the job that has it."""
        return self._created

    def _check_wanted(self) -> None:
        if not self._kind.keeps_results:
            raise ResultUnavailable(
                f"job {self._id}: its task stores no results (results=False); status() tells whether it has ended",
                job_id=self._id,
            )
        if not self._known():
            what = f"no job of {' or '.join(self._kind.lanes)}" if ":" in self._id else "no job's id"
            raise ResultUnavailable(
                f"{self._id!r} is {what}: ids look like resize:1764000000000-0", job_id=self._id
            )

    def _known(self) -> bool:
        """An id that is not of this task is of no job, without asking: ids often come from outside."""
        lane, _, entry = self._id.partition(":")
        return bool(entry) and (not self._kind.lanes or lane in self._kind.lanes)

    def _value(self, record: Record | None) -> R_co:
        if record is None:
            raise ResultUnavailable(
                f"job {self._id}: no result is kept: it has expired, was not stored, or there never was such a job",
                job_id=self._id,
            )
        if record.status == "cancelled":
            because = f": {record.reason}" if record.reason else ""
            raise JobCancelled(
                f"job {self._id} was cancelled{because}", job_id=self._id, reason=record.reason
            )
        if record.status == "dead":
            _raise_failure(self._id, record)
        try:
            reader = self._kind.reader
            return cast(
                "R_co", _untyped(record.value) if reader is None else reader.decode_result(record.value)
            )
        except Exception as exc:  # a dataclass or a model may refuse with anything
            raise ResultUnavailable(
                f"job {self._id} succeeded, but its result does not fit the return annotation here: {exc}",
                job_id=self._id,
            ) from exc

    def _cancellation(self, reason: str) -> tuple[bytes, int]:
        """The record of a job that is cancelled before it starts, and for how many ms it is kept."""
        return encode_record(Record(status="cancelled", reason=reason)), milliseconds(
            self._kind.failure_ttl, "failure_ttl"
        )


class Job(JobFacts[R_co]):
    """A handle of one submitted job. Made by ``task.enqueue(…)``, ``task.job(id)`` and ``app.job(id)``; holds nothing open."""

    def __init__(self, job_id: str, kind: Kind, home: Home, *, created: bool = True) -> None:
        super().__init__(job_id, kind, created=created)
        self._home = home

    async def result(self, timeout: float | datetime.timedelta | None = None) -> R_co:
        """Wait until the job has ended and return what its body returned, in the type of the task's return annotation.

        By notification, no polling. Cancelling this call never cancels the job. A checkpoint.

        Args:
            timeout: seconds; None waits for ever, 0 only looks.

        Raises:
            JobFailed: it is in the dead letters (``kind``; JobTimedOut and JobCrashed derive from it); the remote traceback is
                a note. JobCancelled: with the reason. ResultUnavailable: expired, not stored, or no such job. TimeoutError: it
                had not ended in time. NotEntered: the app is not open here. ServerError: the server cannot be asked.
        """
        self._check_wanted()
        results = self._home.session().backend.results
        return self._value(
            await results.wait(self._id, None if timeout is None else seconds(timeout, "result(timeout=)"))
        )

    async def status(self) -> JobStatus:
        """Where the job is now. ``JobStatus.UNKNOWN``: not outstanding, and no record is kept. A checkpoint."""
        if not self._known():
            await anyio.lowlevel.checkpoint()
            return JobStatus.UNKNOWN
        return await self._home.session().backend.results.status(self._id)

    async def cancel(self, reason: str = "", *, wait: bool = False) -> CancelAnswer:
        """Cancel the job: a delayed or ready one never starts, a running one is told. A checkpoint.

        Args:
            reason: for whoever waits for it (``JobCancelled.reason``) and for the body's clean-up.
            wait: return only once it has ended. A body may succeed all the same: a value that was returned counts.
        """
        if not self._known():
            await anyio.lowlevel.checkpoint()
            return CancelAnswer.UNKNOWN
        results = self._home.session().backend.results
        record, ttl_ms = self._cancellation(reason)
        answer = await results.cancel(self._id, reason, record, ttl_ms)
        if wait and answer is CancelAnswer.REQUESTED:
            await results.wait(self._id, None)
        return answer


def _raise_failure(job_id: str, record: Record) -> NoReturn:
    said = ": ".join(part for part in (record.type, record.message or record.reason) if part)
    kind = cast("FailureKind", record.kind or "error")
    error = _FAILURES.get(kind, JobFailed)(
        f"job {job_id} failed ({kind}){': ' if said else ''}{said}",
        job_id=job_id,
        kind=kind,
        remote_type=record.type,
    )
    if record.traceback:
        error.add_note(f"Traceback of the job, from its worker:\n{record.traceback}")
    raise error
