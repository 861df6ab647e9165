"""What became of a job: read, waited for by notification, cancelled."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from flowq._errors import OutcomeUnknown, ServerError
from flowq._model import CancelAnswer, JobStatus, Record
from flowq.backends.redis import scripts

if TYPE_CHECKING:
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.keys import Keys
    from flowq.backends.redis.listener import Listener
    from flowq.backends.redis.script import Script

PATIENCE = 5.0
"""Seconds for which a question waits for a server that is away; as long as an enqueue does by default."""

_decode = msgspec.json.Decoder(Record).decode


class RedisResults:
    """The Results of one app in Redis (see ``protocol.Results``).

    One pub/sub channel a process: a waiter registers it with the job in the same script that looks for the record, so no end is
    missed; after a gap in the subscription every waiter looks again.
    """

    def __init__(self, channel: Channel, listener: Listener, keys: Keys) -> None:
        self._channel = channel
        self._listener = listener
        self._clock = [keys.clock]
        self._own = keys.waiter(secrets.token_hex(6))
        self._waiting: dict[str, list[anyio.Event]] = {}

    async def wait(self, job_id: str, timeout: float | None) -> Record | None:
        if timeout is not None and timeout <= 0:
            return await self._look(job_id, "")
        self._listener.subscribe(self._own, self._told)
        patience: float | None = PATIENCE
        with anyio.move_on_after(timeout):
            while True:
                event = anyio.Event()
                self._waiting.setdefault(job_id, []).append(event)
                try:
                    reply = await self._ask(scripts.WAIT, [job_id, self._own], patience)
                    # it has been there: an outage from now on is part of the waiting
                    patience = None
                    if reply[0] != b"waiting":
                        return _decode(reply[1]) if reply[0] == b"record" else None
                    await event.wait()
                finally:
                    await self._forget(job_id, event)
        raise TimeoutError(f"job {job_id} had not ended within {timeout} s; it goes on, ask again later")

    async def _look(self, job_id: str, channel: str) -> Record | None:
        reply = await self._ask(scripts.WAIT, [job_id, channel])
        if reply[0] == b"waiting":
            raise TimeoutError(f"job {job_id} has not ended yet")
        return _decode(reply[1]) if reply[0] == b"record" else None

    async def _ask(self, script: Script, args: scripts.Args, patience: float | None = PATIENCE) -> Any:
        """Run a script that may be run twice; a connection that is being made anew is waited for.

        Args:
            patience: seconds; None: for ever.

        Raises:
            Unavailable, OutcomeUnknown: the server could not be reached for so long. Else as the server answers.
        """
        end = None if patience is None else anyio.current_time() + patience
        while True:
            left = None if end is None else max(0.0, end - anyio.current_time())
            try:
                return await self._channel.evalsha(script, self._clock, args, wait=True, timeout=left)
            except OutcomeUnknown:
                if end is not None and anyio.current_time() >= end:
                    raise

    async def _forget(self, job_id: str, event: anyio.Event) -> None:
        """Nobody of this process waits for the job any more: take the channel off it, if there is time."""
        waiting = self._waiting[job_id]
        waiting.remove(event)
        if waiting:
            return
        del self._waiting[job_id]
        if event.is_set():
            return
        with anyio.move_on_after(0.5, shield=True):
            try:
                await self._channel.evalsha(scripts.UNWAIT, self._clock, [job_id, self._own])
            except ServerError:
                return  # the row ends with the job

    def _told(self, message: bytes) -> None:
        for event in self._waiting.get(message.decode(), ()):
            event.set()

    def look_again(self) -> None:
        """Messages may have been missed: every waiter reads its record anew."""
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def status(self, job_id: str) -> JobStatus:
        reply: bytes = await self._ask(scripts.STATUS, [job_id])
        if not reply:
            return JobStatus.UNKNOWN
        if reply.startswith(b"{"):
            return JobStatus(_decode(reply).status)
        return JobStatus(reply.decode())

    async def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        reply: bytes = await self._ask(scripts.CANCEL, [job_id, reason, record, ttl_ms])
        return CancelAnswer(reply.decode())
