"""Reading many keys at one moment, over redis-py's synchronous client; nothing here writes.

What this room does: one transaction of reads, raw replies, our errors. What it will not do: know what the keys mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import redis.exceptions

from flowq._errors import ForeignValue
from flowq.backends.redis.replies import as_error, error_reply_of, from_redis_py

if TYPE_CHECKING:
    from flowq.backends.redis.connection import Arg

ABSENT = ("NOGROUP", "no such key", "No such key")
"""What Redis says of a stream or group that is not there (yet): no error to somebody who only looks."""


def read_many(client: redis.Redis, commands: Sequence[Sequence[Arg]], where: str) -> list[Any]:
    """Run reading commands in one MULTI/EXEC and return their raw replies; None where a stream or group does not exist.

    Args:
        client: from ``Address.sync_client``: no retries, bytes.
        commands: at least one.
        where: names the server in messages.

    Raises:
        Unavailable: no answer. Else as ``replies.TABLE`` says of the first error reply.
    """
    pool: Any = client.connection_pool
    connection: Any = None
    try:
        connection = pool.get_connection()
        packed = connection.pack_commands([("MULTI",), *commands, ("EXEC",)])
        connection.send_packed_command(packed)
        queued: redis.exceptions.ResponseError | None = None
        for _ in range(len(commands) + 1):
            try:
                connection.read_response()
            except redis.exceptions.ResponseError as error:
                queued = queued or error
        try:
            replies: list[Any] = connection.read_response()
        except redis.exceptions.ResponseError as error:
            raise queued or error from None
    except redis.exceptions.RedisError as error:
        if connection is not None and not isinstance(error, redis.exceptions.ResponseError):
            connection.disconnect()
        raise from_redis_py(error, where, sent=False) from error
    finally:
        if connection is not None:
            pool.release(connection)
    return [_checked(reply, command, where) for reply, command in zip(replies, commands, strict=True)]


def _checked(reply: Any, command: Sequence[Arg], where: str) -> Any:
    if not isinstance(reply, redis.exceptions.RedisError):
        return reply
    if any(word in str(reply) for word in ABSENT):
        return None
    if "WRONGTYPE" in str(reply):
        raise ForeignValue(
            f"a foreign value lies in the key {text(command[1])}: rename or delete it, or use another app name ({where})"
        )
    answered = error_reply_of(reply)
    raise as_error(answered, where) if answered else from_redis_py(reply, where, sent=False)


def text(value: Any) -> str:
    """A name or a number as Redis gave it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def pairs(flat: Sequence[Any] | None) -> dict[str, str]:
    """A hash, or a zset with scores."""
    items = [text(v) for v in flat or ()]
    return dict(zip(items[::2], items[1::2], strict=True))


def raw_pairs(flat: Sequence[Any] | None) -> dict[str, Any]:
    """The fields of a stream entry or an XINFO row; the values as they are."""
    items = list(flat or ())
    return {text(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def counters(flat: Sequence[Any] | None) -> dict[str, int]:
    """A hash of counters."""
    return {k: int(v) for k, v in pairs(flat).items()}


def info_fields(raw: Any) -> dict[str, str]:
    """The reply of INFO."""
    lines = text(raw).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
