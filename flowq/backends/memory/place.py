"""The four Protocols over a ``MemoryServer``: a thin layer that waits where the server never does.

Every call is a checkpoint, and the checkpoint comes first: a call that is cancelled has done nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import attrs

from flowq._errors import FlowqError, Unavailable
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
from flowq.backends.memory.bell import Wake, call_in_loop
from flowq.backends.memory.server import MemoryServer
from flowq.backends.protocol import Backend, Capabilities, MemberFacts, Standing

_CAPABILITIES = Capabilities(
    name="memory",
    exact_delay=True,
    cancel_ready=True,
    ordered=True,
    delivery_count=True,
    survives_process=False,
)


@attrs.define(eq=False)
class _Link:
    """What the parts of one client share: the server, and whether the client is open."""

    server: MemoryServer
    open: bool = True

    async def reach(self) -> MemoryServer:
        await anyio.lowlevel.checkpoint()
        return self.reach_nowait()

    def reach_nowait(self) -> MemoryServer:
        if not self.open:
            raise Unavailable(
                "this client of the memory backend is closed: open another one of the same server"
            )
        return self.server


@attrs.define(eq=False)
class MemoryStream:
    _link: _Link
    _listening: set[Wake] = attrs.Factory(set[Wake])

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        return (await self._link.reach()).submit(batch_id, batch)

    async def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        answer = (await self._link.reach()).exchange(me, ended, want)
        if answer.claimed is not None and answer.claimed.grants:
            now = anyio.current_time()
            for delivery in answer.claimed.grants:
                delivery.claimed_at = now
        return answer

    async def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        return (await self._link.reach()).mine(me, known)

    async def wait_ring(self, me: Standing, block: float) -> bool:
        server = await self._link.reach()
        wake, heard = Wake(), False
        self._listening.add(wake)
        try:
            with anyio.move_on_after(block):
                if not server.listen(me.member, wake):
                    await anyio.sleep_forever()  # nobody rings for one who is no member; do not make it spin
                await wake.wait()
            heard = True
            return wake.rung
        finally:
            self._listening.discard(wake)
            server.hang_up(me.member, wake, heard=heard)

    def stop_waiting(self) -> None:
        for wake in self._listening:
            wake.set()


@attrs.define(eq=False)
class MemoryRenewer:
    """Calls the server directly: it has no connection that could break, and may be used from any thread."""

    _link: _Link

    def renew(self, me: Standing, running: int, heard: str = "") -> Renewed:
        return self._link.reach_nowait().renew(me, running, heard)

    def close(self) -> None:
        """Nothing is held open."""


@attrs.define(eq=False)
class MemoryFleet:
    _link: _Link
    _controls: list[Callable[[], None]] = attrs.Factory(list[Callable[[], None]])

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
        return (await self._link.reach()).join(
            facts, lanes, ttl=ttl, old=old, keep=keep, heard=heard, silence=silence
        )

    async def confirm(self, me: Standing, known: Sequence[Delivery]) -> Confirmed:
        return (await self._link.reach()).confirm(me, known)

    async def leave(self, me: Standing) -> None:
        (await self._link.reach()).leave(me)

    def renewer(self) -> MemoryRenewer:
        return MemoryRenewer(self._link)

    async def set_limit(self, lane: str, limit: int | None) -> None:
        (await self._link.reach()).set_limit(lane, limit)

    async def pause(self, lane: str, paused: bool) -> None:
        (await self._link.reach()).pause(lane, paused)

    async def change_ttl(self, ttl: float) -> TtlChange:
        return (await self._link.reach()).change_ttl(ttl)

    def on_control(self, callback: Callable[[], None]) -> None:
        call = call_in_loop()

        def hint() -> None:
            call(callback)

        self._controls.append(hint)
        self._link.reach_nowait().add_control(hint)

    async def cancels(self) -> list[tuple[str, str, str]]:
        return (await self._link.reach()).cancels()

    async def survey(self, me: Standing) -> Survey:
        return (await self._link.reach()).survey(me)

    async def note(self, me: Standing, *, draining: bool, skewed: Mapping[str, int]) -> None:
        """Nobody looks at a place in this process from outside."""
        del me, draining, skewed
        await self._link.reach()

    async def foreign(self) -> dict[str, str]:
        """Nobody else can put anything here."""
        await self._link.reach()
        return {}

    def close(self) -> None:
        while self._controls:
            self._link.server.remove_control(self._controls.pop())


@attrs.define(eq=False)
class MemoryTimers:
    _link: _Link

    async def promote(self) -> float | None:
        return (await self._link.reach()).promote()


@attrs.define(eq=False)
class MemoryResults:
    _link: _Link

    async def wait(self, job_id: str, timeout: float | None) -> Record | None:
        server = await self._link.reach()
        with anyio.move_on_after(timeout):
            while True:
                wake = Wake()
                server.watch(job_id, wake)
                try:
                    record = server.record(job_id)
                    if record is not None or server.status(job_id) is JobStatus.UNKNOWN:
                        return record
                    await wake.wait()
                finally:
                    server.unwatch(job_id, wake)
        raise TimeoutError(f"job {job_id} had not ended within {timeout} s; it goes on, ask again later")

    async def status(self, job_id: str) -> JobStatus:
        return (await self._link.reach()).status(job_id)

    async def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        return (await self._link.reach()).cancel(job_id, reason, record, ttl_ms)


class MemoryBackend:
    """One client of a ``MemoryServer``."""

    def __init__(self, server: MemoryServer) -> None:
        self._link = _Link(server)
        self._stream = MemoryStream(self._link)
        self._fleet = MemoryFleet(self._link)
        self._timers = MemoryTimers(self._link)
        self._results = MemoryResults(self._link)

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    @property
    def stream(self) -> MemoryStream:
        return self._stream

    @property
    def fleet(self) -> MemoryFleet:
        return self._fleet

    @property
    def timers(self) -> MemoryTimers:
        return self._timers

    @property
    def results(self) -> MemoryResults:
        return self._results

    @property
    def generation(self) -> int:
        """Goes up when the server forgot: that is when connections to it break."""
        return self._link.server.restarts

    async def wait_up(self) -> None:
        await self._link.reach()

    @property
    def why_down(self) -> FlowqError | None:
        return None

    async def warnings(self) -> list[str]:
        return []

    def close(self) -> None:
        """From now on every call raises ``Unavailable``."""
        self._fleet.close()
        self._link.open = False


@asynccontextmanager
async def open_memory(server: MemoryServer) -> AsyncGenerator[Backend]:
    """A client of ``server``; ``functools.partial(open_memory, server)`` is an ``OpenBackend``.

    It holds no task and no scope, so it may be opened in a fixture and closed in another task.
    """
    server.connect()
    backend = MemoryBackend(server)
    try:
        yield backend
    finally:
        backend.close()
        server.disconnect()
