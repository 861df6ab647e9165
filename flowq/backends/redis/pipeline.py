"""Requests of many callers over one link: written together, answered in order, and the link kept alive.

Who does what: callers put packed commands into an outbox and wait; one task writes, one reads, one watches the time; ``run`` owns
the three and the link, and connects again when it is lost. So a caller may be cancelled at any moment: what it had not written is
taken back, and a reply that nobody waits for is read and dropped. The stream is never cut in the middle.

Who knows what when the link is lost: a request that was handed to the write may have happened (``OutcomeUnknown``); one still in
the outbox surely did not (``Unavailable``), or goes on waiting if its caller said ``wait``. Nothing is sent twice.

Half-open links: while a reply is awaited and not a byte arrives for ``reply_timeout``, the link is given up (at most a quarter
later). The link of a server that answers READONLY or the like (``replies.Rule.drop``) is given up as soon as what is under way has
been answered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import anyio.lowlevel
import attrs
from anyio.abc import TaskStatus
from trio.lowlevel import enable_ki_protection

from flowq._errors import FlowqError, OutcomeUnknown, Unavailable
from flowq.backends.redis.connection import NOTHING, Connection, connect, reconnect_delay
from flowq.backends.redis.replies import ErrorReply, rule_of

if TYPE_CHECKING:
    from flowq.backends.redis.url import Address

logger = logging.getLogger("flowq.redis")

State = Literal["connecting", "up", "down"]
OnConnect = Callable[[Connection], Awaitable[object]]
TICKS: Final = 4
"""Looks at the clock per ``reply_timeout``."""


class _Call:
    """What one caller waits for: one command, or several whose replies are wanted together."""

    __slots__ = ("data", "done", "expected", "replies", "unanswered", "wait", "written")

    def __init__(self, data: bytes, expected: int, wait: bool) -> None:
        self.data = data
        self.expected = expected
        self.wait = wait
        self.replies: list[Any] = []
        self.done = anyio.Event()
        self.written = False
        self.unanswered: str | None = None
        """Why there will be no reply."""


@attrs.frozen
class Statistics:
    """Counts since the channel was made."""

    generation: int
    calls: int
    writes: int
    outbox: int
    """Calls that wait to be written now."""
    pending: int
    """Calls that wait for their reply now."""


class Pipeline:
    """The engine of a ``Channel``; arguments and attributes as there."""

    def __init__(
        self, address: Address, *, name: str, on_connect: OnConnect | None, reply_timeout: float | None
    ) -> None:
        self.address = address
        self.generation = 0
        self.server_version: tuple[int, int, int] = (0, 0, 0)
        self.why_down: FlowqError | None = None
        self._name = name
        self._on_connect = on_connect
        self._reply_timeout = address.reply_timeout if reply_timeout is None else reply_timeout
        self._where = address.redacted()
        self.state: State = "connecting"
        self._closed = False
        self._up = anyio.Event()
        self._outbox: dict[_Call, None] = {}
        self._pending: deque[_Call] = deque()
        self._wake = anyio.Event()
        self._connection: Connection | None = None
        self._leaving = b""
        """Bytes that the writer is sending, or is to send next: the kernel did not take them at once. Nothing may overtake them."""
        self._heard = 0
        self._retiring: str | None = None
        self._lost_at: float | None = None
        self._calls = 0
        self._writes = 0

    def describe(self) -> str:
        """For the channel's ``repr``."""
        state = "closed" if self._closed else self.state
        return f"to {self._where} ({state}, generation {self.generation}, {len(self._pending)} under way)"

    def statistics(self) -> Statistics:
        return Statistics(self.generation, self._calls, self._writes, len(self._outbox), len(self._pending))

    async def wait_up(self) -> None:
        while self.state != "up":
            if self._closed:
                raise Unavailable(f"the channel to {self._where} is closed")
            await self._up.wait()

    async def request(
        self, data: bytes, expected: int, wait: bool, timeout: float | None, *, at_once: bool = False
    ) -> list[Any]:
        """The replies to ``expected`` packed commands, ``ErrorReply`` among them.

        Args:
            at_once: send it now, if nothing is on its way out; else, and by default, all requests of one turn of the loop leave in one write.

        Raises:
            Unavailable: surely not written. OutcomeUnknown: written, and not all replies came (in time).
        """
        if self.state != "up" and (self._closed or not wait):
            raise self._unavailable()
        # in a scope that is cancelled already, nothing is sent
        await anyio.lowlevel.checkpoint_if_cancelled()
        call = _Call(data, expected, wait)
        self._calls += 1
        if not (at_once and self._send_now(call)):
            self._outbox[call] = None
            self._wake.set()
        try:
            if timeout is None:
                await call.done.wait()
            else:
                with anyio.move_on_after(timeout):
                    await call.done.wait()
        finally:
            if not call.done.is_set():
                self._outbox.pop(call, None)
        if len(call.replies) == expected:
            return call.replies
        reason = call.unanswered or f"{self._where} did not answer within {timeout:g} s"
        if call.written:
            raise OutcomeUnknown(f"{reason}; the request had been sent and may have been executed")
        if call.unanswered is None and self.state != "up":
            raise Unavailable(
                f"no connection to {self._where} within {timeout:g} s: {self.why_down or 'not yet'}"
            )
        raise Unavailable(f"{reason}; the request had not been sent")

    @enable_ki_protection
    def _send_now(self, call: _Call) -> bool:
        """Hand a request to the kernel without a turn of the scheduler. False: it is for the writer."""
        connection = self._connection
        if connection is None or self._outbox or self._leaving or self._retiring is not None:
            return False
        taken = connection.send_now(call.data)
        if not taken:
            return False
        call.written = True
        self._pending.append(call)
        self._writes += 1
        if taken < len(call.data):
            self._leaving = call.data[taken:]
            self._wake.set()
        return True

    def _unavailable(self) -> Unavailable:
        if self._closed:
            return Unavailable(f"the channel to {self._where} is closed")
        if self.why_down is None:
            return Unavailable(f"not connected to {self._where} yet")
        return Unavailable(f"no connection to {self._where}: {self.why_down}")

    # --- the channel's own tasks ---

    @enable_ki_protection
    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        started = False
        failures = 0
        try:
            while True:
                connection = await self._open(first=not started)
                if connection is None:
                    failures += 1
                    if not started:
                        task_status.started()
                        started = True
                else:
                    failures = 0
                    self._take(connection)
                    if not started:
                        task_status.started()
                        started = True
                    await self._serve(connection)
                await anyio.sleep(reconnect_delay(failures))
        finally:
            self._closed = True
            self._drop_calls(f"the channel to {self._where} was closed")
            self.state = "down"
            self._up.set()

    async def _open(self, *, first: bool) -> Connection | None:
        connection: Connection | None = None
        ready = False
        try:
            connection = await connect(self.address, name=self._name)
            if self._on_connect is not None:
                await self._on_connect(connection)
            ready = True
        except FlowqError as error:
            if first and not isinstance(error, Unavailable | OutcomeUnknown):
                raise
            self._failed(error)
        finally:
            if connection is not None and not ready:
                await connection.aclose()
        return connection if ready else None

    def _take(self, connection: Connection) -> None:
        """From here on calls go to this connection."""
        self.server_version = connection.server_version
        self.generation += 1
        self.why_down = None
        self._retiring = None
        self.state = "up"
        self._up.set()
        if self._lost_at is not None:
            seconds = anyio.current_time() - self._lost_at
            self._lost_at = None
            extra = {"event": "redis.back", "seconds": round(seconds, 3), "server": self._where}
            logger.info("connected to %s again after %.1f s", self._where, seconds, extra=extra)

    async def _serve(self, connection: Connection) -> None:
        """Move bytes until the link is lost, then tell everybody."""
        reasons: list[str] = []

        @enable_ki_protection
        async def until_lost(part: Callable[[Connection], Awaitable[None]]) -> None:
            try:
                await part(connection)
            except OutcomeUnknown as error:
                reasons.append(str(error))
                group.cancel_scope.cancel()

        self._connection, self._leaving = connection, b""
        try:
            async with anyio.create_task_group() as group:
                for part in (self._write, self._read, self._watch):
                    group.start_soon(until_lost, part)
        finally:
            self._connection = None
            await connection.aclose()
        self._failed(Unavailable(reasons[0]))

    async def _write(self, connection: Connection) -> None:
        while True:
            while not self._leaving:
                if self._outbox and self._retiring is None:
                    self._empty_outbox()
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
            await connection.send(self._leaving)
            self._leaving = b""

    def _empty_outbox(self) -> None:
        calls, self._outbox = self._outbox, {}
        for call in calls:
            call.written = True
        # before the write: replies may come while it still waits
        self._pending.extend(calls)
        self._writes += 1
        self._leaving = b"".join([call.data for call in calls])

    async def _read(self, connection: Connection) -> None:
        pending = self._pending
        next_reply = connection.next_reply
        while True:
            await connection.receive()
            self._heard += 1
            while (reply := next_reply()) is not NOTHING:
                if not pending:
                    raise OutcomeUnknown(f"{self._where} sent a reply that nobody asked for")
                if type(reply) is ErrorReply and rule_of(reply).drop:
                    self._retiring = reply.text
                call = pending[0]
                call.replies.append(reply)
                if len(call.replies) == call.expected:
                    pending.popleft()
                    call.done.set()
            if self._retiring is not None and not pending:
                raise OutcomeUnknown(f"{self._where} is of no use now: {self._retiring}")

    async def _watch(self, _: Connection) -> None:
        tick = self._reply_timeout / TICKS
        silent = 0
        heard = self._heard
        while True:
            await anyio.sleep(tick)
            if self._pending and heard == self._heard:
                silent += 1
            else:
                silent = 0
                heard = self._heard
            # the first silent tick may have begun before the call did
            if silent > TICKS:
                raise OutcomeUnknown(f"{self._where} has not answered for {self._reply_timeout:g} s")

    def _failed(self, error: FlowqError) -> None:
        """The link was lost, or an attempt to connect failed."""
        new_trouble = type(error) is not type(self.why_down)
        self.why_down = error
        if self.state == "up":
            self._up = anyio.Event()
        self.state = "down"
        self._drop_calls(str(error), all_of_them=False)
        extra = {"event": "redis.lost", "server": self._where, "reason": str(error)}
        if self._lost_at is None:
            self._lost_at = anyio.current_time()
            logger.warning("no connection to %s, connecting again: %s", self._where, error, extra=extra)
        elif new_trouble and not isinstance(error, Unavailable | OutcomeUnknown):
            logger.error("still no connection to %s: %s", self._where, error, extra=extra)

    def _drop_calls(self, reason: str, *, all_of_them: bool = True) -> None:
        """Fail what was written, and of the outbox those who do not wait for a new connection."""
        dropped = [*self._pending, *(call for call in self._outbox if all_of_them or not call.wait)]
        self._pending.clear()
        for call in dropped:
            self._outbox.pop(call, None)
            call.unanswered = reason
            call.done.set()
