"""What an app says of itself: its clocks, members, pools and limits, and the server behind it; no lane is looked at yet.

The lease clock in Redis only moves when somebody calls, by at most TTL/6 a call. What is shown as "lease left" is what the next
caller would find: the stored clock plus that clamped step. A fleet that is dead altogether therefore keeps its last lease on
display until a worker, or anybody who submits, calls again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from flowq.backends.redis.keys import Keys
from flowq.backends.redis.reader import info_fields, pairs, read_many, text
from flowq.backends.redis.views import ServerView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

LOOK = 10_000
"""Delayed jobs and dead letters that a snapshot looks at; beyond, its counts by type are lower bounds."""


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
    letters: int
    server: ServerView
    pools: dict[str, Mapping[str, str]] = attrs.field(factory=dict[str, Mapping[str, str]])
    pool_members: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]])

    def live(self, member: str) -> bool:
        return self.members.get(member, 0) > self.now.lease


def read_facts(client: redis.Redis, keys: Keys, where: str) -> Facts:
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
            ("XLEN", keys.dead),
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
        letters,
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
        letters=letters,
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
