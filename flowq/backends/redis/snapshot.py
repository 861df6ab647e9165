"""A whole app at one moment, from its keys.

The lease clock in Redis only moves when somebody calls, by at most TTL/6 a call. What is shown as "lease left" is what the next
caller would find: the stored clock plus that clamped step. A fleet that is dead altogether therefore keeps its last lease on
display until a worker, or anybody who submits, calls again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from flowq._model import HANDED_BACK
from flowq.backends.redis.keys import GROUP, Keys
from flowq.backends.redis.letters import count_letters
from flowq.backends.redis.reader import counters, info_fields, pairs, raw_pairs, read_many, text
from flowq.backends.redis.views import LongestView, ServerView, Snapshot, TypeView, WorkerView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

LOOK = 10_000
"""Delayed jobs and dead letters that a snapshot looks at; beyond, its counts by type are lower bounds."""
LOOK_RUNNING = 100
"""Running jobs a type among which the longest is sought."""
MINUTES = 5
"""Whole minutes of the rates, and the current one."""


@attrs.frozen
class Now:
    """The app's clocks as the next caller would find them, in ms."""

    time: int
    lease: int
    waiting: int
    quarantine_end: int
    ttl: int
    fields: Mapping[str, str]

    @classmethod
    def of(cls, time: Sequence[bytes], clock: Mapping[str, str]) -> Now:
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        ttl = int(clock.get("ttl", 0))
        step = max(0, now - int(clock.get("t", now)))
        return cls(
            time=now,
            lease=int(clock.get("l", 0)) + min(step, ttl // 6),
            waiting=int(clock.get("w", 0)) + step,
            quarantine_end=int(clock.get("q", 0)),
            ttl=ttl,
            fields=clock,
        )


@attrs.define
class Facts:
    """What the app says of itself, before any lane is looked at."""

    now: Now
    lanes: list[str]
    limits: Mapping[str, str]
    override: Mapping[str, str]
    paused: set[str]
    serve: Mapping[str, str]
    members: Mapping[str, float]
    expired: list[str]
    cancelling: int
    delayed: Sequence[tuple[str, float]]
    more_delayed: bool
    server: ServerView
    pools: dict[str, Mapping[str, str]] = attrs.field(factory=dict[str, Mapping[str, str]])
    pool_members: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]])

    def live(self, member: str) -> bool:
        return self.members.get(member, 0) > self.now.lease


def take(client: redis.Redis, keys: Keys, name: str, namespace: str | None, where: str) -> Snapshot:
    """Read the app whose keys these are.

    Raises:
        ServerError: no answer, or not an answer that can be used.
    """
    facts = _facts(client, keys, where)
    lanes = _lanes(client, keys, facts, where)
    rows = [*facts.members, *facts.expired]
    hashes = read_many(client, [("HGETALL", keys.member(m)) for m in rows], where) if rows else []
    held: dict[str, int] = {}
    for lane in lanes:
        for member, n in lane.running_by.items():
            held[member] = held.get(member, 0) + n
    workers = [_worker(m, pairs(h), held.get(m, 0), facts) for m, h in zip(rows, hashes, strict=True) if h]
    now = facts.now
    return Snapshot(
        name=name,
        namespace=namespace,
        at=now.time / 1000,
        layout=now.fields.get("schema", ""),
        lease_ttl=now.ttl / 1000 if now.ttl else None,
        quarantine=max(0, now.quarantine_end - now.lease) / 1000,
        cancelling=facts.cancelling,
        types=tuple(lanes),
        workers=tuple(sorted(workers, key=lambda w: (w.host, w.pid))),
        server=facts.server,
    )


# --- the app ------------------------------------------------------------------------------------------------------------


def _facts(client: redis.Redis, keys: Keys, where: str) -> Facts:
    replies = read_many(
        client,
        [
            ("TIME",),
            ("HGETALL", keys.clock),
            ("SMEMBERS", keys.types),
            ("HGETALL", keys.limits),
            ("HGETALL", keys.override),
            ("SMEMBERS", keys.paused),
            ("HGETALL", keys.serve),
            ("ZRANGE", keys.members, 0, -1, "WITHSCORES"),
            ("ZRANGE", keys.expired, 0, -1),
            ("HLEN", keys.cancels),
            ("ZRANGE", keys.delayed, 0, LOOK - 1, "WITHSCORES"),
            ("ZCARD", keys.delayed),
            ("INFO",),
        ],
        where,
    )
    (
        time,
        clock,
        types,
        limits,
        override,
        paused,
        serve,
        members,
        expired,
        cancels,
        delayed,
        ndelayed,
        info,
    ) = replies
    due = [(text(i), float(s)) for i, s in zip(delayed[::2], delayed[1::2], strict=True)]
    scores = {m: float(s) for m, s in pairs(members).items() if m}
    facts = Facts(
        now=Now.of(time, pairs(clock)),
        lanes=sorted({text(t) for t in types}),
        limits=pairs(limits),
        override=pairs(override),
        paused={text(p) for p in paused},
        serve=pairs(serve),
        members=scores,
        expired=[text(m) for m in expired if text(m) not in scores],
        cancelling=cancels,
        delayed=due,
        more_delayed=ndelayed > len(due),
        server=read_server(info_fields(info)),
    )
    pools = sorted({p for served in facts.serve.values() for p in served.split()})
    asks: list[tuple[Arg, ...]] = []
    for pool in pools:
        asks += [("HGETALL", keys.pool(pool)), ("SMEMBERS", keys.pool_members(pool))]
    found = read_many(client, asks, where) if asks else []
    for pool, policy, who in zip(pools, found[::2], found[1::2], strict=True):
        facts.pools[pool] = pairs(policy)
        facts.pool_members[pool] = {text(m) for m in who}
    return facts


def read_server(info: Mapping[str, str]) -> ServerView:
    """The server's own account, from INFO: CONFIG is forbidden on most hosted Redis."""
    valkey = info.get("valkey_version")
    return ServerView(
        version=valkey or info.get("redis_version", "?"),
        kind="valkey" if valkey else "redis",
        role=info.get("role", "?"),
        used_memory=int(info.get("used_memory", 0)),
        max_memory=int(info.get("maxmemory", 0)),
        eviction=info.get("maxmemory_policy", "?"),
        aof=info.get("aof_enabled") == "1",
        snapshots=int(info.get("rdb_last_cow_size", 0)) > 0 or int(info.get("rdb_saves", 0)) > 0,
        uptime=int(info.get("uptime_in_seconds", 0)),
        replicas=int(info.get("connected_slaves", 0)),
    )


def _worker(member: str, row: Mapping[str, str], running: int, facts: Facts) -> WorkerView:
    try:
        said = msgspec.json.decode(row.get("facts", "{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        said = {}
    pool = row.get("pool", "")
    return WorkerView(
        member=member,
        host=str(said.get("host", "?")),
        pid=int(said.get("pid", 0)),
        version=str(said.get("version", "?")),
        backend=str(said.get("backend", "?")),
        concurrency=int(said.get("concurrency", 0)),
        lease_left=(facts.members.get(member, 0) - facts.now.lease) / 1000
        if member in facts.members
        else 0.0,
        age=max(0, facts.now.time - int(row.get("started", facts.now.time))) / 1000,
        running=running,
        lanes=tuple(sorted(facts.pools.get(pool, ()))),
        suspect=row.get("suspect"),
    )


# --- its lanes ----------------------------------------------------------------------------------------------------------


def _lanes(client: redis.Redis, keys: Keys, facts: Facts, where: str) -> list[TypeView]:
    if not facts.lanes:
        return []
    minute = facts.now.time // 60_000
    per = 5 + MINUTES + 1
    asks: list[tuple[Arg, ...]] = []
    for lane in facts.lanes:
        s = keys.stream(lane)
        asks += [
            ("XLEN", s),
            ("XINFO", "GROUPS", s),
            ("XPENDING", s, GROUP),
            ("XPENDING", s, GROUP, "-", "+", LOOK_RUNNING),
            ("HGETALL", keys.stats(lane)),
            *(("HGETALL", keys.stats(lane, minute - back)) for back in range(MINUTES, -1, -1)),
        ]
    replies = read_many(client, asks, where)
    rows = {lane: replies[i * per : (i + 1) * per] for i, lane in enumerate(facts.lanes)}
    heads: list[tuple[Arg, ...]] = []
    for lane, row in rows.items():
        last = _last_delivered(row[1])
        heads += [
            ("XRANGE", keys.stream(lane), f"({last}" if last else "-", "+", "COUNT", 1),
            ("XPENDING", keys.stream(lane), GROUP, "-", "+", 1, HANDED_BACK),
        ]
    first = read_many(client, heads, where)
    dead, more_dead = count_letters(client, keys, LOOK)
    delayed = _delayed_by_lane(facts.delayed)
    views: list[TypeView] = []
    for i, (lane, row) in enumerate(rows.items()):
        view = _lane(lane, row, facts, _oldest(first[2 * i], first[2 * i + 1], facts.now))
        count, due = delayed.get(lane, (0, None))
        views.append(
            attrs.evolve(
                view,
                delayed=count,
                delayed_at_least=facts.more_delayed,
                next_due=None if due is None else (due - facts.now.waiting) / 1000,
                dead=dead.get(lane, 0),
                dead_at_least=more_dead,
            )
        )
    return views


def _lane(lane: str, row: Sequence[Any], facts: Facts, oldest: float | None) -> TypeView:
    length, groups, summary, pending, total, *minutes = row
    in_flight = _group(groups).get("pending", 0)
    owners = {text(owner): int(n) for owner, n in (summary[3] if summary else None) or ()}
    running_by = {m: n for m, n in sorted(owners.items()) if facts.live(m)}
    back = owners.get(HANDED_BACK, 0)
    pools = facts.serve.get(lane, "").split()
    recent: dict[str, int] = {}
    for minute in minutes:
        for what, n in counters(minute).items():
            recent[what] = recent.get(what, 0) + n
    serving = [p for p in pools if facts.pool_members.get(p)]
    declared = {_declared(facts.pools[p].get(lane, "")) for p in serving}
    return TypeView(
        name=lane,
        ready=max(0, length - in_flight) + back,
        oldest_waiting=oldest,
        running=sum(running_by.values()),
        orphaned=sum(owners.values()) - sum(running_by.values()) - back,
        running_by=running_by,
        longest=_longest(pending or (), facts),
        limit=int(facts.limits[lane]) if lane in facts.limits else None,
        declared=tuple(sorted(declared, key=lambda limit: (limit is None, limit or 0))),
        override=int(facts.override[lane]) if lane in facts.override else None,
        paused=lane in facts.paused,
        delayed=0,
        delayed_at_least=False,
        next_due=None,
        dead=0,
        dead_at_least=False,
        served_by=sum(facts.live(m) for p in serving for m in facts.pool_members[p]),
        recent=recent,
        recent_seconds=_recent_seconds(minutes, counters(total), recent, facts.now.time),
        total=counters(total),
    )


def _declared(policy: str) -> int | None:
    limit = policy.partition("|")[0]
    return int(limit) if limit else None


def _recent_seconds(
    minutes: Sequence[Any], total: Mapping[str, int], recent: Mapping[str, int], now: int
) -> float:
    """How long the counters of the last minutes have been counting: not before the lane was first used."""
    into = (now % 60_000) / 1000
    if total == recent:
        for back, minute in zip(range(MINUTES, -1, -1), minutes, strict=True):
            if minute:
                return back * 60 + into
    return MINUTES * 60 + into


def _group(groups: Any) -> dict[str, Any]:
    for row in groups or ():
        fields = raw_pairs(row)
        if text(fields.get("name")) == GROUP:
            return fields
    return {}


def _last_delivered(groups: Any) -> str | None:
    last = _group(groups).get("last-delivered-id")
    return None if last is None else text(last)


def _oldest(unread: Any, handed_back: Any, now: Now) -> float | None:
    waits: list[float] = []
    if unread:
        waits.append(max(0, now.time - int(text(unread[0][0]).partition("-")[0])) / 1000)
    if handed_back:
        waits.append(handed_back[0][2] / 1000)
    return max(waits, default=None)


def _longest(pending: Iterable[Sequence[Any]], facts: Facts) -> LongestView | None:
    running = [p for p in pending if facts.live(text(p[1]))]
    if not running:
        return None
    entry, member, idle, _ = max(running, key=lambda p: p[2])
    return LongestView(job=text(entry), member=text(member), seconds=idle / 1000)


def _delayed_by_lane(delayed: Iterable[tuple[str, float]]) -> dict[str, tuple[int, float | None]]:
    found: dict[str, tuple[int, float | None]] = {}
    for job, due in delayed:
        lane = job.partition(":")[0]
        n, first = found.get(lane, (0, None))
        found[lane] = (n + 1, due if first is None else first)
    return found
