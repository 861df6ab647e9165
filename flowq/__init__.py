"""flowq: a task queue for trio and asyncio on Redis Streams, with exact fleet-wide concurrency limits.

The door: public names, nothing else. The worker's part is loaded when it is first asked for, so that a program that only
submits does not pay for it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from flowq._app import App
from flowq._collection import Tasks
from flowq._context import RunningJob, cleanup, current_job
from flowq._errors import (
    AuthenticationFailed,
    BadURL,
    ConfigurationError,
    DuplicateTask,
    FlowqError,
    ForeignValue,
    IncompatibleLayout,
    InvalidArguments,
    InvalidName,
    JobCancelled,
    JobCrashed,
    JobError,
    JobFailed,
    JobTimedOut,
    LeaseLost,
    NoServer,
    NotEntered,
    OutcomeUnknown,
    PayloadTooLarge,
    ReadOnlyServer,
    Reject,
    ResultUnavailable,
    Retry,
    ScriptFailed,
    ServerError,
    ServerFull,
    ServerTooOld,
    SubmitUnknown,
    Unavailable,
    UnknownTask,
    UnservableSignature,
)
from flowq._job import Job
from flowq._model import CancelAnswer, JobStatus
from flowq._options import Backoff, Options, TaskOptions, TaskPolicy
from flowq._sync import SyncJob, SyncProducer
from flowq._task import AsyncTask, Bound, SyncTask, Task

if TYPE_CHECKING:
    from flowq import testing
    from flowq._runtime.worker import Worker, open_worker, run

    __version__: str

Running = RunningJob

_WORKER = ("Worker", "open_worker", "run")

__all__ = [
    "App",
    "AsyncTask",
    "AuthenticationFailed",
    "Backoff",
    "BadURL",
    "Bound",
    "CancelAnswer",
    "ConfigurationError",
    "DuplicateTask",
    "FlowqError",
    "ForeignValue",
    "IncompatibleLayout",
    "InvalidArguments",
    "InvalidName",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobFailed",
    "JobStatus",
    "JobTimedOut",
    "LeaseLost",
    "NoServer",
    "NotEntered",
    "Options",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "ReadOnlyServer",
    "Reject",
    "ResultUnavailable",
    "Retry",
    "Running",
    "RunningJob",
    "ScriptFailed",
    "ServerError",
    "ServerFull",
    "ServerTooOld",
    "SubmitUnknown",
    "SyncJob",
    "SyncProducer",
    "SyncTask",
    "Task",
    "TaskOptions",
    "TaskPolicy",
    "Tasks",
    "Unavailable",
    "UnknownTask",
    "UnservableSignature",
    "Worker",
    "__version__",
    "cleanup",
    "current_job",
    "open_worker",
    "run",
    "testing",
]

# the name under which users import and catch them is the one that tracebacks and dead letters show
for _public in __all__:
    _class = globals().get(_public)
    if isinstance(_class, type) and issubclass(_class, Exception):
        _class.__module__ = __name__


def __getattr__(name: str) -> Any:
    if name in _WORKER:
        from flowq._runtime import worker

        return getattr(worker, name)
    if name == "testing":
        return import_module("flowq.testing")
    if name == "__version__":
        try:
            return version("trio-flowq")
        except PackageNotFoundError:  # a source tree that was not installed
            return "0+unknown"
    raise AttributeError(f"module 'flowq' has no attribute {name!r}")
