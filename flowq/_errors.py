"""Every error of flowq, in one look.

::

    FlowqError
    ├── ConfigurationError            yours: the code or the settings cannot work as written; nothing was sent
    │   ├── NoServer                    no URL was given anywhere
    │   ├── BadURL                      the URL cannot be understood
    │   ├── InvalidName                 a task, app or namespace name that would break a key
    │   ├── DuplicateTask               two tasks with one name
    │   ├── UnknownTask                 no task of that name is registered here
    │   └── UnservableSignature         an annotation that cannot be read back from JSON
    ├── InvalidArguments (TypeError)  yours: the arguments do not fit the task; nothing was sent
    ├── PayloadTooLarge               yours: the encoded job or result is over the limit; nothing was sent
    ├── NotEntered                    yours: the app is not open in this event loop or process
    ├── ServerError                   outside: Redis, or the way to it
    │   ├── Unavailable                 nothing answered, and what you asked for surely did not happen
    │   ├── OutcomeUnknown              the reply was lost: it may have happened
    │   │   └── SubmitUnknown             jobs may be stored; ``resend()`` is safe
    │   ├── AuthenticationFailed        wrong user or password, or the ACL forbids a command
    │   ├── ServerTooOld                Redis below 6.2
    │   ├── ReadOnlyServer              a replica answered
    │   ├── ServerFull                  maxmemory reached: producers are refused, workers drain
    │   ├── IncompatibleLayout          another flowq wrote this app's keys in a newer or other layout
    │   └── ScriptFailed                a script of ours was refused: a defect of flowq
    │       └── ForeignValue              … or somebody else's value in a key of this app
    ├── JobError                      what a waiter learns of a job
    │   ├── JobFailed                   it ended in the dead letters
    │   │   ├── JobTimedOut               … because each attempt ran out of time
    │   │   └── JobCrashed                … because it took its worker down again and again
    │   ├── JobCancelled                somebody cancelled it
    │   └── ResultUnavailable           no result is kept: expired, never stored, or no such job
    └── LeaseLost                     outside: this worker could not hold its lease
Retry and Reject are not failures of flowq: a body raises them to say what shall become of its job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

FailureKind = Literal["error", "timeout", "rejected", "crashed", "undecodable", "skew", "expired"]


class FlowqError(Exception):
    """Base of every error that flowq raises on purpose."""

    accepted: Sequence[Any] = ()
    """After ``app.enqueue_many``: the jobs (handles) that were stored before this error."""


class ConfigurationError(FlowqError):
    """The code or the settings cannot work as written. Your side: mend them; nothing was sent."""


class NoServer(ConfigurationError):
    """No URL was given. Set ``FLOWQ_URL``, pass ``App(url=…)``, or ask for the embedded server by name."""


class BadURL(ConfigurationError):
    """The URL cannot be understood. The message names the part at fault, never the password."""


class InvalidName(ConfigurationError):
    """A name that does not match ``[A-Za-z0-9_.-]{1,100}`` and would break a Redis key."""


class DuplicateTask(ConfigurationError):
    """Two tasks of one app have one name. Give one of them ``name=``."""


class UnknownTask(ConfigurationError):
    """No task of that name is registered in this app. ``App.ref(name)`` submits without the code."""


class UnservableSignature(ConfigurationError):
    """A parameter or result annotation that msgspec cannot convert from JSON. Raised when the task is registered."""


class InvalidArguments(FlowqError, TypeError):
    """The arguments do not fit the task's signature or annotations. Nothing was sent."""


class PayloadTooLarge(FlowqError):
    """The encoded job (or result) is over its limit in bytes. Send a reference to the data instead of the data."""


class NotEntered(FlowqError):
    """The app is not open here: use ``async with app:`` in this event loop, or ``app.sync()`` without one."""


class ServerError(FlowqError):
    """Redis, or the way to it, failed. The message says what to do."""


class Unavailable(ServerError):
    """Nothing answered in time, and what was asked for surely did not happen. Safe to try again."""


class OutcomeUnknown(ServerError):
    """The request was sent and the reply was lost: it may or may not have happened."""


class SubmitUnknown(OutcomeUnknown):
    """The reply to a submit was lost: the jobs may be stored. ``await err.resend()`` never makes a second copy."""

    def __init__(self, message: str, resend: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(message)
        self._resend = resend

    async def resend(self) -> Any:
        """Send the very same batch again.

        Returns what the first call would have returned. A batch that was stored the first time is not stored again, for as
        long as its marker lives (``resend_window`` seconds, 120 by default); after that this raises ``Unavailable``.
        """
        return await self._resend()


class AuthenticationFailed(ServerError):
    """Wrong user or password, or the ACL of this user forbids a command that flowq needs (the message names it)."""


class ServerTooOld(ServerError):
    """flowq needs Redis 6.2 or newer (or Valkey)."""


class ReadOnlyServer(ServerError):
    """A read-only replica answered. Point the URL at the primary."""


class ServerFull(ServerError):
    """``maxmemory`` is reached: the submit was refused and nothing was stored. Workers go on draining."""


class IncompatibleLayout(ServerError):
    """This app's keys were written in a layout that this version of flowq does not read."""


class ScriptFailed(ServerError):
    """A script of ours was refused by the server: a defect of flowq, if it is no ``ForeignValue``."""


class ForeignValue(ScriptFailed):
    """A value of a wrong type lies in one of this app's keys. ``flowq doctor`` names the key: rename or delete it."""


class JobError(FlowqError):
    """What a waiter learns of a job that did not return a value."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The job ended in the dead letters.

    ``kind`` says why, ``remote_type`` and the message come from the worker; the remote traceback is a note of this exception.
    """

    def __init__(self, message: str, *, job_id: str, kind: FailureKind, remote_type: str = "") -> None:
        super().__init__(message, job_id=job_id)
        self.kind: FailureKind = kind
        self.remote_type = remote_type


class JobTimedOut(JobFailed):
    """The job ended in the dead letters because its last attempt ran out of time."""


class JobCrashed(JobFailed):
    """The job ended in the dead letters because it took its worker down ``max_crashes`` times."""


class JobCancelled(JobError):
    """The job was cancelled. ``reason`` is what the canceller said."""

    def __init__(self, message: str, *, job_id: str, reason: str = "") -> None:
        super().__init__(message, job_id=job_id)
        self.reason = reason


class ResultUnavailable(JobError):
    """No result is kept: it has expired, the task stores none (``results=False``), or there never was such a job."""


class LeaseLost(FlowqError):
    """This worker could not hold its lease; its jobs move to others. Raised to the embedder only if it cannot rejoin."""


class Retry(Exception):
    """Raise it in a body: run this job again.

    Args:
        after: seconds to wait; ``None`` takes the task's backoff.
        reason: kept in the job's history.
    It counts as an attempt. It is found inside exception groups; the longest ``after`` wins there.
    """

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        if after is not None and after < 0:
            raise ValueError(f"Retry(after={after!r}): seconds to wait, 0 or more")
        super().__init__(reason or "retry asked for by the body")
        self.after = after
        self.reason = reason


class Reject(Exception):
    """Raise it in a body: this job can never succeed; put it in the dead letters now, whatever retries are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "rejected by the body")
        self.reason = reason
