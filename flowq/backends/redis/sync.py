"""Redis without an event loop: what the synchronous producer needs, over redis-py's synchronous client.

What this room does: the same scripts as ``stream`` and ``results``, in blocking calls. What it will not do: send anything twice
by itself (the producer decides that).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import redis
import redis.exceptions

from flowq._errors import IncompatibleLayout, ServerError
from flowq._model import CancelAnswer, JobStatus, Receipt, Record, Submission
from flowq.backends.redis import scripts
from flowq.backends.redis.full import Refusals
from flowq.backends.redis.keys import Keys, check_layout
from flowq.backends.redis.replies import from_redis_py
from flowq.backends.redis.script import Script
from flowq.backends.redis.stream import RESEND_WINDOW_MS
from flowq.backends.redis.url import parse_url

LOOK_AGAIN = 30.0
"""Seconds after which a waiter asks again, in case the message about the job's end was lost with a connection."""

_decode = msgspec.json.Decoder(Record).decode


class SyncRedis:
    """One app's place in Redis for threads. Thread-safe, and usable after a fork: redis-py's pool sees to both.

    Args:
        url: see ``url.parse_url``.
        prefix: of the app's keys.
        on_close: called at the end of ``close``.

    Raises:
        BadURL: at once; nothing connects before the first call.
    """

    def __init__(self, url: str, *, prefix: str, on_close: Callable[[], object] | None = None) -> None:
        self._address = parse_url(url)
        self._keys = Keys(prefix)
        self._client = self._address.sync_client(redis_connect_func=self._greet)
        self._on_close = on_close
        self._refusals = Refusals(self._address.redacted())

    def _greet(self, connection: Any) -> None:
        """Each new connection looks first whether this version may write the app's keys, as those of event loops do.

        Raises:
            IncompatibleLayout: it may not.
        """
        connection.on_connect()
        connection.send_command("HGET", self._keys.clock, "schema")
        try:
            check_layout((connection.read_response() or b"").decode())
        except IncompatibleLayout:
            # redis-py would keep it, and not greet again
            connection.disconnect()
            raise

    def submit(self, batch_id: str, batch: list[Submission]) -> list[Receipt]:
        """See ``protocol.Stream.submit``; the address' timeouts bound it."""
        with self._refusals.noticed():
            reply = self._call(scripts.SUBMIT, scripts.submit(batch_id, RESEND_WINDOW_MS, batch))
        return scripts.read_submit(reply, batch)

    def wait(self, job_id: str, timeout: float | None) -> Record | None:
        """See ``protocol.Results.wait``."""
        if timeout is not None and timeout <= 0:
            return self._look(job_id, "", timeout)
        until = None if timeout is None else time.monotonic() + timeout
        channel = self._keys.waiter(secrets.token_hex(6))
        try:
            with self._client.pubsub(ignore_subscribe_messages=False) as pubsub:  # type: ignore[no-untyped-call]  # redis-py has no types here
                pubsub.subscribe(channel)
                pubsub.get_message(timeout=self._address.reply_timeout)
                return self._await_end(pubsub, job_id, channel, until, timeout)
        except redis.exceptions.RedisError as error:
            raise from_redis_py(error, self._address.redacted(), sent=False) from error
        finally:
            # a row that stays behind ends with its job
            with suppress(ServerError):
                self._call(scripts.UNWAIT, [job_id, channel])

    def _await_end(
        self, pubsub: Any, job_id: str, channel: str, until: float | None, timeout: float | None
    ) -> Record | None:
        while True:
            left = LOOK_AGAIN if until is None else min(LOOK_AGAIN, until - time.monotonic())
            try:
                return self._look(job_id, channel, timeout)
            except TimeoutError:
                if left <= 0:
                    raise
            pubsub.get_message(timeout=left)

    def _look(self, job_id: str, channel: str, timeout: float | None) -> Record | None:
        reply = self._call(scripts.WAIT, [job_id, channel])
        if reply[0] == b"waiting":
            raise TimeoutError(f"job {job_id} had not ended within {timeout} s; it goes on, ask again later")
        return _decode(reply[1]) if reply[0] == b"record" else None

    def status(self, job_id: str) -> JobStatus:
        """See ``protocol.Results.status``."""
        reply: bytes = self._call(scripts.STATUS, [job_id])
        if not reply:
            return JobStatus.UNKNOWN
        return JobStatus(_decode(reply).status if reply.startswith(b"{") else reply.decode())

    def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        """See ``protocol.Results.cancel``."""
        reply: bytes = self._call(scripts.CANCEL, [job_id, reason, record, ttl_ms])
        return CancelAnswer(reply.decode())

    def close(self) -> None:
        """Give the sockets back; the next call opens new ones."""
        self._client.close()
        self._client.connection_pool.disconnect()
        if self._on_close is not None:
            self._on_close()

    def _call(self, script: Script, args: scripts.Args) -> Any:
        return script.call_sync(self._client, [self._keys.clock], args)
