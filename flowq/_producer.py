"""The way of jobs to the server: concurrent ``enqueue`` calls leave in one write.

What this room does: collects asks, forms batches, sends them, sends a batch again under the same id when its reply was lost,
and tells every caller what is known. What it will not do: encode, or know where the server is.

The senders live in a task that is not the callers': a caller that is cancelled before the write withdraws its job, later it
only stops waiting. A batch is formed at the moment it is sent, so a lone enqueue waits for nobody and a hundred concurrent
ones share a round trip; no timer is involved.
"""

from __future__ import annotations

import copy
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from trio.lowlevel import enable_ki_protection

from flowq._clock import monotonic_clock
from flowq._errors import FlowqError, NotEntered, OutcomeUnknown, SubmitUnknown, Unavailable
from flowq._model import Receipt, Submission
from flowq.backends.protocol import Backend

MAX_BATCH = 500
"""Jobs in one wire batch: the script runs a few ms, so nobody else waits long."""
MAX_BYTES = 1 << 20
"""Bytes of envelopes in one wire batch; a single larger job goes alone."""
IN_FLIGHT = 4
"""Batches on the wire at once: enough to hide the round trip, few enough that asks still collect."""
RESEND_WINDOW = 110.0
"""Seconds for which a batch may be sent again: the server remembers it for 120, and the request has to get there."""

_now = monotonic_clock()
"""The server's 120 seconds run on while this machine sleeps."""


class _Ask:
    """What one caller wants stored, until the answer is there. ``batch`` is set once it is on the wire."""

    __slots__ = ("batch", "deadline", "done", "error", "offset", "submissions")

    def __init__(self, submissions: Sequence[Submission], deadline: float) -> None:
        self.submissions = submissions
        self.deadline = deadline
        self.done = anyio.Event()
        self.batch: _Batch | None = None
        self.offset = 0
        self.error: FlowqError | None = None

    def finish(self, error: FlowqError | None = None) -> None:
        self.error = error
        self.done.set()


class _Batch:
    """What goes over the wire as one, for good: the same id always means the same jobs."""

    __slots__ = ("asks", "batch_id", "maybe_stored", "receipts", "since", "submissions")

    def __init__(self, batch_id: str, asks: list[_Ask]) -> None:
        self.batch_id = batch_id
        self.asks = asks
        self.submissions: list[Submission] = []
        for ask in asks:
            ask.batch, ask.offset = self, len(self.submissions)
            self.submissions.extend(ask.submissions)
        self.since = _now()
        self.maybe_stored = False
        self.receipts: list[Receipt] | None = None


class BatchUnknown(SubmitUnknown):
    """What ``Producer`` raises as SubmitUnknown: ``ask`` is good for ``resend`` of this producer, or of a later one."""

    def __init__(self, message: str, ask: _Ask, resend: Callable[[], Awaitable[list[Receipt]]]) -> None:
        super().__init__(message, resend)
        self.ask = ask


class Producer:
    """One per open app. ``submit`` may be called by any task of the loop; the senders live in the session's own task."""

    def __init__(self, backend: Backend, *, timeout: float) -> None:
        self._backend = backend
        self._timeout = timeout
        self._asks: deque[_Ask] = deque()
        self._again: deque[_Batch] = deque()
        self._in_flight: set[_Batch] = set()
        self._idle: list[anyio.Event] = []
        self._woken = False
        self._closed: FlowqError | None = None
        self._session = secrets.token_hex(8)
        self._count = 0

    def start(self, tasks: TaskGroup) -> None:
        """Start the senders."""
        for i in range(IN_FLIGHT):
            tasks.start_soon(self._send_batches, name=f"flowq sender {i}")

    async def submit(self, submissions: Sequence[Submission]) -> list[Receipt]:
        """Store jobs, at most ``MAX_BATCH``, and return their receipts in order. A checkpoint.

        Raises:
            Unavailable: surely not stored. BatchUnknown: may be stored. ServerError: refused.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._closed is not None:
            raise self._closed
        ask = _Ask(submissions, anyio.current_time() + self._timeout)
        self._asks.append(ask)
        self._wake()
        try:
            await ask.done.wait()
        except BaseException:
            if ask.batch is None and not ask.done.is_set():
                self._asks.remove(ask)
            raise
        return self._answer(ask)

    async def resend(self, ask: _Ask) -> list[Receipt]:
        """Send an ask's batch again, under its own id. A checkpoint.

        Raises:
            Unavailable: it is too late: the server may have forgotten the batch's id. Otherwise as ``submit``.
        """
        batch = ask.batch
        assert batch is not None
        if batch.receipts is None:
            if _now() - batch.since > RESEND_WINDOW:
                raise Unavailable(
                    f"this batch was first sent more than {RESEND_WINDOW:.0f} s ago, so sending it again could store its jobs "
                    f"twice: look for its effects, or enqueue anew with key="
                )
            if self._closed is not None:
                raise self._closed
            if ask.done.is_set():
                ask.done = anyio.Event()
            if batch not in self._again and batch not in self._in_flight:
                self._again.append(batch)
                self._wake()
            await ask.done.wait()
        else:
            await anyio.lowlevel.checkpoint()
            ask.error = None
        return self._answer(ask)

    async def drain(self) -> None:
        """Wait until nothing is waiting or on the wire."""
        while self._asks or self._again or self._in_flight:
            ask = self._asks[-1] if self._asks else next(iter((*self._again, *self._in_flight))).asks[-1]
            await ask.done.wait()
            await anyio.lowlevel.checkpoint()

    def close(self, failure: FlowqError | None) -> None:
        """The senders have ended: tell everybody who still waits."""
        self._closed = failure or NotEntered("the app was closed")
        for ask in self._asks:
            waiting = NotEntered("the app was closed while this enqueue was waiting; its jobs were not sent")
            ask.finish(copy.copy(failure) if failure else waiting)
        self._asks.clear()
        for batch in (*self._in_flight, *self._again):
            self._fail(batch, failure or Unavailable("the app was closed before the reply came"))
        self._in_flight.clear()
        self._again.clear()

    def _answer(self, ask: _Ask) -> list[Receipt]:
        if ask.error is not None:
            raise ask.error
        assert ask.batch is not None and ask.batch.receipts is not None
        return ask.batch.receipts[ask.offset : ask.offset + len(ask.submissions)]

    def _wake(self) -> None:
        if self._idle and not self._woken:
            self._woken = True
            self._idle.pop().set()

    @enable_ki_protection
    async def _send_batches(self) -> None:
        while True:
            while not self._asks and not self._again:
                event = anyio.Event()
                self._idle.append(event)
                await event.wait()
                self._woken = False
            if batch := await self._next():
                self._in_flight.add(batch)
                if self._asks or self._again:
                    self._wake()
                await self._deliver(batch)
                self._in_flight.discard(batch)

    async def _next(self) -> _Batch | None:
        """Form a batch once the server can be reached; whoever waited too long for that is told so."""
        if self._again:
            return self._again.popleft()
        with anyio.CancelScope(deadline=self._asks[0].deadline) as scope:
            try:
                await self._backend.wait_up()
            except FlowqError as exc:
                while self._asks:
                    self._asks.popleft().finish(copy.copy(exc))
        if scope.cancelled_caught:
            now, patience = anyio.current_time(), f"{self._timeout:g} s (enqueue_timeout)"
            why = f": {self._backend.why_down}" if self._backend.why_down else ""
            while self._asks and self._asks[0].deadline <= now:
                error = Unavailable(
                    f"nothing was stored: the server could not be reached for {patience}{why}"
                )
                self._asks.popleft().finish(error)
            return None
        asks: list[_Ask] = []
        jobs = size = 0
        while self._asks:
            ask = self._asks[0]
            jobs += len(ask.submissions)
            size += sum(len(s.envelope) for s in ask.submissions)
            if asks and (jobs > MAX_BATCH or size > MAX_BYTES):
                break
            asks.append(self._asks.popleft())
        if not asks:
            return None
        self._count += 1
        return _Batch(f"{self._session}-{self._count}", asks)

    async def _deliver(self, batch: _Batch) -> None:
        """Send until it is stored, refused, or the time is over."""
        until = anyio.current_time() + self._timeout
        pause, refused = 0.05, False
        error: FlowqError = Unavailable(f"no reply within {self._timeout:g} s (enqueue_timeout)")
        while batch.receipts is None and not refused and anyio.current_time() < until:
            before = batch.maybe_stored
            with anyio.CancelScope(deadline=until):
                try:
                    await self._backend.wait_up()
                    batch.maybe_stored = True
                    batch.receipts = await self._backend.stream.submit(batch.batch_id, batch.submissions)
                except OutcomeUnknown as exc:
                    error = exc
                except FlowqError as exc:
                    batch.maybe_stored = before
                    error, refused = exc, not isinstance(exc, Unavailable)
                if batch.receipts is None and not refused:
                    await anyio.sleep(pause)
                    pause = min(2 * pause, 0.5)
        if batch.receipts is None:
            self._fail(batch, error)
        else:
            for ask in batch.asks:
                ask.finish()

    def _fail(self, batch: _Batch, error: FlowqError) -> None:
        """Each caller gets an error of its own: what one of them adds to it is not the others' business."""
        for ask in batch.asks:
            own: FlowqError
            if batch.maybe_stored:
                message = f"the jobs may be stored: {error}. `await err.resend()` is safe: it never makes a second copy"
                own = BatchUnknown(message, ask, partial(self.resend, ask))
            else:
                own = copy.copy(error)
            own.__cause__ = error
            ask.finish(own)
