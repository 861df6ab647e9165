"""A server in memory that remembers what was enqueued, tells when it is idle, and whose clock can be moved on.

What this room does: the place behind ``flowq.testing.worker``. What it will not do: change what a job means. It differs from
``MemoryServer`` in one thing: a job that is to be tried again is ready at once, since nobody wants to wait for backoff in a test.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from flowq._fleet import Survey
from flowq._model import HANDED_BACK, Again, Ended, Exchanged, Receipt, Submission, Want
from flowq._task import Task
from flowq.backends.memory import DeadLetter, LaneCounts, MemoryServer
from flowq.backends.memory.bell import Wake
from flowq.backends.memory.clock import unix_clock
from flowq.backends.protocol import Standing

Tasks = Mapping[str, Task[..., Any]]


@attrs.frozen
class EnqueuedJob:
    """A job that was enqueued in the block."""

    id: str
    task: str
    args: tuple[Any, ...]
    """As the body gets them, in the types of its annotations."""
    kwargs: Mapping[str, Any]
    arguments: Mapping[str, Any]
    """All arguments that were given, by the names of their parameters. Empty for a task whose code is not here."""
    delay: float = 0.0
    """Seconds, as in ``options(delay=…)``."""
    at: float = 0.0
    """Unix seconds, as in ``options(at=…)``; 0: not given."""
    key: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen
class DeadJob:
    """A job that ended in the dead letters."""

    id: str
    task: str
    kind: str
    """error, timeout, rejected, crashed, undecodable, skew or expired: as ``JobFailed.kind``."""
    reason: str
    type: str
    """Of the exception; empty if there was none."""
    message: str
    traceback: str
    attempts: int


class Recorder(MemoryServer):
    """See the module. Make it in the event loop that uses it."""

    def __init__(self) -> None:
        loop_clock = unix_clock()
        self._ahead = 0
        super().__init__(clock=lambda: loop_clock() + self._ahead)
        self._accepted: dict[str, Submission] = {}
        self._watchers: set[Wake] = set()

    # --- as the worker sees it ----------------------------------------------------------------------------------------------

    def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        receipts = super().submit(batch_id, batch)
        for receipt, submission in zip(receipts, batch, strict=True):
            if receipt.created:  # a batch that is sent again brings the ids of the first time
                self._accepted.setdefault(receipt.job_id, submission)
        return receipts

    def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        return super().exchange(me, [_without_backoff(one) for one in ended], want)

    def survey(self, me: Standing) -> Survey:
        # a test moves this clock on; that is no step of a server's clock
        return attrs.evolve(super().survey(me), time=None)

    def _pass_on(self) -> None:
        super()._pass_on()
        for wake in tuple(self._watchers):
            wake.set()

    # --- as the test sees it ------------------------------------------------------------------------------------------------

    def enqueued(self, tasks: Tasks) -> list[EnqueuedJob]:
        """What was enqueued so far, in order."""
        return [_enqueued(job_id, job, tasks.get(job.lane)) for job_id, job in self._accepted.items()]

    def dead_jobs(self) -> list[DeadJob]:
        """The dead letters, oldest first."""
        return [_dead(letter) for letter in self.dead_letters]

    def at_work(self, lanes: Sequence[str]) -> dict[str, LaneCounts]:
        """Those of these lanes in which something runs, or is ready and may start."""
        return {
            name: counts for name, counts in self.snapshot().items() if name in lanes and _is_busy(counts)
        }

    def wake_all(self) -> None:
        """Have everybody who waits in ``next_change`` look again."""
        for wake in tuple(self._watchers):
            wake.set()

    async def next_change(self) -> None:
        """Wait until something was asked of the server."""
        wake = Wake()
        self._watchers.add(wake)
        try:
            await wake.wait()
        finally:
            self._watchers.discard(wake)

    def move_on(self, milliseconds: int) -> None:
        """Let the server's time leap forward: what is due by then becomes ready. Leases do not notice."""
        with self._call() as state:
            self._ahead += milliseconds
            state.clock.now += milliseconds
            state.clock.waiting += milliseconds
        self.promote()


def _without_backoff(one: Ended) -> Ended:
    outcome = one.outcome
    # skew is not counted as an attempt: without its delay it would come again and again
    if not isinstance(outcome, Again) or outcome.why == "skew":
        return one
    return msgspec.structs.replace(one, outcome=msgspec.structs.replace(outcome, delay_ms=0))


def _is_busy(counts: LaneCounts) -> bool:
    waiting = counts.ready + counts.pending.get(HANDED_BACK, 0)
    running = sum(counts.pending.values()) - counts.pending.get(HANDED_BACK, 0)
    return running > 0 or (waiting > 0 and counts.limit != 0)


def _enqueued(job_id: str, job: Submission, task: Task[..., Any] | None) -> EnqueuedJob:
    fields: dict[str, Any] = msgspec.json.decode(job.envelope)
    args, kwargs = tuple(fields.get("args", ())), fields.get("kwargs", {})
    arguments: Mapping[str, Any] = {}
    if task is not None and task.registration.codec is not None:
        args, kwargs = decoded(task, job.envelope)
        arguments = inspect.signature(task.fn).bind(*args, **kwargs).arguments
    return EnqueuedJob(
        id=job_id,
        task=job.lane,
        args=args,
        kwargs=kwargs,
        arguments=arguments,
        delay=job.delay_ms / 1000,
        at=job.at_ms / 1000,
        key=job.key,
        headers=fields.get("headers", {}),
    )


def decoded(task: Task[..., Any], envelope: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in an envelope, as the body gets them."""
    call = task.codec.decode(envelope)
    return tuple(call.args), dict(call.kwargs)


def complete(task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """All arguments of a call by name, defaults among them."""
    bound = inspect.signature(task.fn).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _dead(letter: DeadLetter) -> DeadJob:
    detail: dict[str, Any] = msgspec.json.decode(letter.detail or b"{}")
    return DeadJob(
        id=letter.job_id,
        task=letter.lane,
        kind=letter.kind,
        reason=letter.reason,
        type=detail.get("type", ""),
        message=detail.get("message", letter.reason),
        traceback=detail.get("traceback", ""),
        attempts=detail.get("attempts", 0),
    )
