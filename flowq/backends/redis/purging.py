"""Dropping a lane's jobs that have not started, in steps that never block the server for long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowq.backends.redis.reader import text
from flowq.backends.redis.script import Script, execute_sync, load_text

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg
    from flowq.backends.redis.keys import Keys

STEP: Final = 200
"""Jobs of one step: some milliseconds of Redis."""

PURGE: Final = Script("purge", load_text(Path(__file__).with_name("lua") / "purge.lua"))


def purge(client: redis.Redis, keys: Keys, lane: str, record: bytes, ttl_ms: int) -> int:
    """Drop what is delayed or ready now; what is submitted meanwhile may stay. Returns how many jobs that were.

    Args:
        record: of a cancelled job: what each of them leaves for who waits for it.
        ttl_ms: for how long.

    Raises:
        OutcomeUnknown: a reply was lost; calling again is safe.
    """
    dropped = 0

    def step(until: str, ids: list[str]) -> int:
        args: list[Arg] = [lane, record, ttl_ms, until, STEP, *ids]
        return int(PURGE.call_sync(client, [keys.clock], args))

    # the delayed ones first: what becomes due meanwhile is ready when those are looked at
    cursor: bytes | int = 0
    while True:
        cursor, found = execute_sync(
            client, "ZSCAN", keys.delayed, cursor, "MATCH", f"{lane}:*", "COUNT", STEP
        )
        ids = [text(job) for job in found[::2]]
        for i in range(0, len(ids), STEP):
            dropped += step("", ids[i : i + STEP])
        if int(cursor) == 0:
            break
    last = execute_sync(client, "XREVRANGE", keys.stream(lane), "+", "-", "COUNT", 1)
    while last and (n := step(text(last[0][0]), [])):
        dropped += n
    return dropped
