"""From a job's id to the job, and from a lane to its jobs.

There is no index: a job's id names its first stream entry; a job that was delayed or retried has a row in ``delayed`` or ``moved``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from flowq._errors import InvalidArguments
from flowq._model import HANDED_BACK, JobStatus
from flowq.backends.redis import letters, scripts
from flowq.backends.redis.facts import Now
from flowq.backends.redis.keys import GROUP, Keys
from flowq.backends.redis.reader import pairs, raw_pairs, read_many, text
from flowq.backends.redis.views import JobView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

LOOK = 10_000
"""Ids that one question looks at."""
LOOK_AHEAD = 1000
"""Waiting entries, read with their payload, that the question for a place in the queue looks at."""
OUTSTANDING = (JobStatus.RUNNING, JobStatus.READY, JobStatus.DELAYED)


def envelope_of(raw: bytes | None) -> Mapping[str, Any] | None:
    """The fields of a job, as far as they can be read."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def job(client: redis.Redis, keys: Keys, job_id: str, where: str) -> JobView:
    """One job by its id.

    Raises:
        InvalidArguments: this is no job id. ServerError: no answer.
    """
    lane, separator, first = job_id.partition(":")
    if not separator or not lane or not first:
        raise InvalidArguments(
            f"{job_id!r} is no job id: they look like resize:1764000000000-0 (Job.id, `flowq ls TYPE`)"
        )
    state = text(scripts.STATUS.call_sync(client, [keys.clock], [job_id]))
    if state in (JobStatus.READY, JobStatus.RUNNING, JobStatus.CANCELLING, JobStatus.DELAYED):
        found = _outstanding(client, keys, lane, job_id, JobStatus(state), where)
        if found is not None:
            return found
    letter = next((h for h in letters.heads(client, keys) if h.job == job_id), None)
    buried = letters.find(client, keys, letter.letter) if letter else None
    record = envelope_of(state.encode()) if state.startswith("{") else None
    if record is not None:
        status = JobStatus(record.get("status", "unknown"))
    else:
        status = JobStatus.DEAD if buried else JobStatus.UNKNOWN
    envelope = envelope_of(buried.raw) if buried else None
    return JobView(job_id, lane, status, envelope=envelope, record=record, letter=buried)


def _outstanding(
    client: redis.Redis, keys: Keys, lane: str, job_id: str, status: JobStatus, where: str
) -> JobView | None:
    time, clock, data, due, moved = read_many(
        client,
        [
            ("TIME",),
            ("HGETALL", keys.clock),
            ("HGET", keys.delayed_data, job_id),
            ("ZSCORE", keys.delayed, job_id),
            ("HGET", keys.moved, job_id),
        ],
        where,
    )
    now = Now.of(time, pairs(clock))
    if due is not None:
        raw = data.partition(b"|")[2] if data else None
        return JobView(
            job_id,
            lane,
            JobStatus.DELAYED,
            seconds=(float(due) - now.waiting) / 1000,
            envelope=envelope_of(raw),
        )
    entry = text(moved) if moved else job_id.partition(":")[2]
    if entry.startswith(("d", "k")):
        return None
    rows, pending, crashes = read_many(
        client,
        [
            ("XRANGE", keys.stream(lane), entry, entry),
            ("XPENDING", keys.stream(lane), GROUP, entry, entry, 1),
            ("HGET", keys.crashes(lane), entry),
        ],
        where,
    )
    if not rows:
        return None
    view = _in_stream(lane, rows[0], pending[0] if pending else None, int(crashes or 0), now)
    return attrs.evolve(view, id=job_id, status=status)


def _in_stream(lane: str, row: Any, pending: Sequence[Any] | None, crashes: int, now: Now) -> JobView:
    entry = text(row[0])
    raw = raw_pairs(row[1]).get("d")
    envelope = envelope_of(raw)
    job_id = str((envelope or {}).get("id") or f"{lane}:{entry}")
    since_entry = max(0, now.time - int(entry.partition("-")[0])) / 1000
    if pending is None or text(pending[1]) == HANDED_BACK:
        seconds = pending[2] / 1000 if pending else since_entry
        deliveries = int(pending[3]) if pending else 0
        return JobView(job_id, lane, JobStatus.READY, entry, seconds, None, deliveries, crashes, envelope)
    return JobView(
        job_id,
        lane,
        JobStatus.RUNNING,
        entry,
        pending[2] / 1000,
        text(pending[1]),
        int(pending[3]),
        crashes,
        envelope,
    )


def jobs(
    client: redis.Redis, keys: Keys, lane: str, state: str | None, limit: int, where: str
) -> list[JobView]:
    """Up to ``limit`` outstanding jobs of a lane, oldest first within each state."""
    s = keys.stream(lane)
    time, clock, pending, crashes, groups = read_many(
        client,
        [
            ("TIME",),
            ("HGETALL", keys.clock),
            ("XPENDING", s, GROUP, "-", "+", LOOK),
            ("HGETALL", keys.crashes(lane)),
            ("XINFO", "GROUPS", s),
        ],
        where,
    )
    now = Now.of(time, pairs(clock))
    crashed = {k: int(v) for k, v in pairs(crashes).items()}
    found: list[JobView] = []
    for status in OUTSTANDING:
        room = limit - len(found)
        if state not in (None, status.value) or room <= 0:
            continue
        if status is JobStatus.DELAYED:
            found += _delayed(client, keys, lane, room, now, where)
            continue
        owned = [p for p in pending or () if (text(p[1]) == HANDED_BACK) is (status is JobStatus.READY)][
            :room
        ]
        found += _entries(client, keys, lane, owned, crashed, now, where)
        room -= len(owned)
        if status is JobStatus.READY and room > 0:
            rows = _unread(client, keys, lane, groups, room, where)
            found += [_in_stream(lane, row, None, 0, now) for row in rows]
    return found


def _entries(
    client: redis.Redis,
    keys: Keys,
    lane: str,
    owned: Sequence[Any],
    crashed: Mapping[str, int],
    now: Now,
    where: str,
) -> list[JobView]:
    if not owned:
        return []
    asks: list[tuple[Arg, ...]] = [("XRANGE", keys.stream(lane), p[0], p[0]) for p in owned]
    rows = read_many(client, asks, where)
    return [
        _in_stream(lane, row[0], p, crashed.get(text(p[0]), 0), now)
        for p, row in zip(owned, rows, strict=True)
        if row
    ]


def _unread(client: redis.Redis, keys: Keys, lane: str, groups: Any, room: int, where: str) -> Sequence[Any]:
    group = next((g for g in map(raw_pairs, groups or ()) if text(g["name"]) == GROUP), None)
    start = f"({text(group['last-delivered-id'])}" if group else "-"
    rows: Sequence[Any] = read_many(
        client, [("XRANGE", keys.stream(lane), start, "+", "COUNT", room)], where
    )[0]
    return rows


def _delayed(client: redis.Redis, keys: Keys, lane: str, room: int, now: Now, where: str) -> list[JobView]:
    flat = read_many(client, [("ZRANGE", keys.delayed, 0, LOOK - 1, "WITHSCORES")], where)[0]
    due = [(text(i), float(s)) for i, s in zip(flat[::2], flat[1::2], strict=True)]
    mine = [(i, s) for i, s in due if i.partition(":")[0] == lane][:room]
    if not mine:
        return []
    rows = read_many(client, [("HMGET", keys.delayed_data, *(i for i, _ in mine))], where)[0]
    return [
        JobView(
            job_id,
            lane,
            JobStatus.DELAYED,
            seconds=(score - now.waiting) / 1000,
            envelope=envelope_of(raw.partition(b"|")[2]) if raw else None,
        )
        for (job_id, score), raw in zip(mine, rows, strict=True)
    ]


def ahead(client: redis.Redis, keys: Keys, waiting: JobView, where: str) -> int:
    """How many ready jobs of its lane are in front of a ready job, counted up to ``LOOK_AHEAD``."""
    if waiting.entry is None:
        return 0
    s = keys.stream(waiting.lane)
    groups, back = read_many(
        client,
        [("XINFO", "GROUPS", s), ("XPENDING", s, GROUP, "-", f"({waiting.entry}", LOOK, HANDED_BACK)],
        where,
    )
    before = len(back or ())
    if waiting.deliveries == 0:
        rows = _unread(client, keys, waiting.lane, groups, LOOK_AHEAD, where)
        at = next((i for i, row in enumerate(rows) if text(row[0]) == waiting.entry), len(rows))
        before += at
    return before
