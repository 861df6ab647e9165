"""An app's outstanding jobs, page by page, and storing those of another place, each once.

What this room does: reads streams and timers in pages that never block the server for long, and calls the script ``import``.
What it will not do: know what a file of jobs looks like, or decide which jobs to take.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from flowq.backends.redis.facts import Now
from flowq.backends.redis.keys import GROUP, Keys, check_layout
from flowq.backends.redis.lookup import envelope_of
from flowq.backends.redis.reader import pairs, raw_pairs, read_many, text
from flowq.backends.redis.script import Script, execute_sync, load_text

if TYPE_CHECKING:
    import redis

    from flowq._jobfile import Incoming
    from flowq.backends.redis.connection import Arg

PAGE: Final = 500
"""Jobs of one look."""
REMEMBERED_MS: Final = 30 * 86_400_000
"""For how long after the last import it is known what was stored."""

IMPORT: Final = Script("import", load_text(Path(__file__).with_name("lua") / "import.lua"))

Answer = Literal["stored", "before", "there", "ended", "taken"]


@attrs.frozen
class Outstanding:
    """A job that has not ended."""

    id: str
    lane: str
    state: Literal["ready", "delayed", "running"]
    due: int
    """Unix ms; 0: not delayed."""
    envelope: bytes


def place(client: redis.Redis, keys: Keys) -> str:
    """The name of these keys, which outlives restarts and failovers; given now if they have none."""
    execute_sync(client, "HSETNX", keys.clock, "place", secrets.token_hex(8))
    return text(execute_sync(client, "HGET", keys.clock, "place"))


def lanes(client: redis.Redis, keys: Keys) -> list[str]:
    """Every lane that the app has or had."""
    return sorted(text(lane) for lane in execute_sync(client, "SMEMBERS", keys.types))


def count(client: redis.Redis, keys: Keys, wanted: Sequence[str], where: str) -> int:
    """How many jobs are outstanding, at most: the delayed ones of all lanes, the others of these."""
    asks: list[tuple[Arg, ...]] = [("ZCARD", keys.delayed), *(("XLEN", keys.stream(lane)) for lane in wanted)]
    return sum(int(n or 0) for n in read_many(client, asks, where))


def outstanding(client: redis.Redis, keys: Keys, wanted: Sequence[str], where: str) -> Iterator[Outstanding]:
    """The jobs of these lanes: delayed ones by the time they are due, then each stream, oldest first.

    What becomes due or starts meanwhile may come twice, what fails and waits for its next attempt may be missed. What a dead worker
    holds, or nobody, is ready.
    """
    yield from _delayed(client, keys, frozenset(wanted), where)
    for lane in wanted:
        yield from _stream(client, keys, lane, where)


def _delayed(client: redis.Redis, keys: Keys, wanted: frozenset[str], where: str) -> Iterator[Outstanding]:
    # many may be due in the same ms: a page goes on at the last one's score, past as many as were seen there
    at, seen = "-inf", 0
    while True:
        time, clock, flat = read_many(
            client,
            [
                ("TIME",),
                ("HGETALL", keys.clock),
                ("ZRANGEBYSCORE", keys.delayed, at, "+inf", "WITHSCORES", "LIMIT", seen, PAGE),
            ],
            where,
        )
        rows = [(text(job), text(score)) for job, score in zip(flat[::2], flat[1::2], strict=True)]
        if not rows:
            return
        now = Now.of(time, pairs(clock))
        data = read_many(client, [("HMGET", keys.delayed_data, *(job for job, _ in rows))], where)[0]
        for (job, score), row in zip(rows, data, strict=True):
            lane, _, envelope = (row or b"").partition(b"|")
            if row and text(lane) in wanted:
                due = max(1, now.time + round(float(score)) - now.waiting)
                yield Outstanding(job, text(lane), "delayed", due, envelope)
        last = rows[-1][1]
        same = sum(score == last for _, score in rows)
        at, seen = last, same + (seen if at == last else 0)


def _stream(client: redis.Redis, keys: Keys, lane: str, where: str) -> Iterator[Outstanding]:
    s = keys.stream(lane)
    start = "-"
    while True:
        time, clock, members, rows, pending = read_many(
            client,
            [
                ("TIME",),
                ("HGETALL", keys.clock),
                ("ZRANGE", keys.members, 0, -1, "WITHSCORES"),
                ("XRANGE", s, start, "+", "COUNT", PAGE),
                ("XPENDING", s, GROUP, start, "+", PAGE),
            ],
            where,
        )
        lease = Now.of(time, pairs(clock)).lease
        live = {m for m, expiry in pairs(members).items() if m and float(expiry) > lease}
        running = {text(p[0]) for p in pending or () if text(p[1]) in live}
        for row in rows or ():
            yield _of_entry(lane, row, running)
        if len(rows or ()) < PAGE:
            return
        start = f"({text(rows[-1][0])}"


def _of_entry(lane: str, row: Any, running: set[str]) -> Outstanding:
    entry, fields = text(row[0]), raw_pairs(row[1])
    # an entry that somebody else wrote goes along whole, as it would into a dead letter
    envelope = fields.get("d", b" ".join(row[1]))
    said = (envelope_of(envelope) or {}).get("id")
    job = said if isinstance(said, str) and said.startswith(f"{lane}:") else f"{lane}:{entry}"
    return Outstanding(job, lane, "running" if entry in running else "ready", 0, envelope)


def store(
    client: redis.Redis, keys: Keys, source: str, jobs: Sequence[Incoming], *, again: bool, dry: bool
) -> list[tuple[Answer, str]]:
    """Store a chunk, all of it or nothing, or say what would become of it. Each job's answer, and an id: its own here; of ``taken``, that
    of the job which has its idempotency key.

    Raises:
        OutcomeUnknown: the reply was lost; calling again stores nothing twice. ServerFull: nothing happened.
    """
    args: list[Arg] = [source, REMEMBERED_MS, int(again), int(dry)]
    for job in jobs:
        args += (job.type, job.id, int(job.keeps_id), job.due, job.key, job.envelope)
    flat = IMPORT.call_sync(client, [keys.clock], args)
    return [(text(flat[i]), text(flat[i + 1])) for i in range(0, len(flat), 2)]  # type: ignore[misc]  # the words of Answer


def check_writable(client: redis.Redis, keys: Keys) -> bool:
    """See whether this version may write these keys; whether there are any.

    Raises:
        IncompatibleLayout: another generation of flowq wrote them.
    """
    check_layout(text(execute_sync(client, "HGET", keys.clock, "schema") or b""))
    return bool(execute_sync(client, "EXISTS", keys.clock))
