"""The cross-checks: what is written in two places must agree (DESIGN §5), and the server must be fit to keep jobs.

What this room does: reads, compares, says what does not agree and what that means. What it will not do: mend anything.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from flowq._model import HANDED_BACK
from flowq.backends.redis.facts import Now, read_server
from flowq.backends.redis.fitness import Finding, of_server
from flowq.backends.redis.keys import GROUP, LAYOUT, Keys
from flowq.backends.redis.reader import info_fields, pairs, raw_pairs, read_many, text
from flowq.backends.redis.script import execute_sync
from flowq.backends.redis.views import ServerView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

LOOK = 1000
"""Rows of each table that are followed to the other place."""
LOOK_ENTRIES = 200
"""Oldest entries of each stream that are compared with its pending list; they are read with their payload."""
FOREVER = (
    "clock", "members", "expired", "member:*", "pools", "pool:*", "pm:*", "serve", "ready:*", "full:*", "bell:*", "types",
    "limits",
    "override", "paused", "s:*", "delayed", "delayed:d", "moved", "dead", "cancels", "orphans", "crashes:*", "stats:*", "u:*",
    "waiters", "legacy:*",
)  # fmt: skip
"""Key families of the layout that live without a TTL."""
PASSING = ("r:*", "once:*", "hungry:*", "stats:*:*", "imported")
"""Key families that must have a TTL: without one they stay for ever."""


def check(client: redis.Redis, keys: Keys, where: str) -> list[Finding]:
    """Every finding about the app and its server; empty: all agrees."""
    state = _read(client, keys, where)
    found = list(of_server(state.server))
    found += _app(state)
    for lane in state.lanes:
        found += _lane(client, keys, lane, state, where)
    found += _delayed(client, keys, where)
    found += _followed(client, keys, where)
    found += _families(client, keys)
    return found


@attrs.frozen
class _State:
    now: Now
    lanes: list[str]
    members: Mapping[str, float]
    has_sentinel: bool
    orphans: set[str]
    limits: Mapping[str, str]
    override: Mapping[str, str]
    paused: set[str]
    serve: Mapping[str, str]
    pools: set[str]
    server: ServerView

    def live(self, owner: str) -> bool:
        return self.members.get(owner, 0) > self.now.lease


def _read(client: redis.Redis, keys: Keys, where: str) -> _State:
    time, clock, types, members, orphans, limits, override, paused, serve, pools, info = read_many(
        client,
        [
            ("TIME",),
            ("HGETALL", keys.clock),
            ("SMEMBERS", keys.types),
            ("ZRANGE", keys.members, 0, -1, "WITHSCORES"),
            ("SMEMBERS", keys.orphans),
            ("HGETALL", keys.limits),
            ("HGETALL", keys.override),
            ("SMEMBERS", keys.paused),
            ("HGETALL", keys.serve),
            ("SMEMBERS", keys.pools),
            ("INFO",),
        ],
        where,
    )
    scores = {m: float(s) for m, s in pairs(members).items()}
    return _State(
        now=Now.of(time, pairs(clock)),
        lanes=sorted(text(t) for t in types),
        members={m: s for m, s in scores.items() if m},
        has_sentinel="" in scores,
        orphans={text(o) for o in orphans},
        limits=pairs(limits),
        override=pairs(override),
        paused={text(p) for p in paused},
        serve=pairs(serve),
        pools={text(p) for p in pools},
        server=read_server(info_fields(info)),
    )


# --- the app ------------------------------------------------------------------------------------------------------------


def _app(state: _State) -> Iterator[Finding]:
    layout = state.now.fields.get("schema", LAYOUT)
    if layout != LAYOUT:
        yield Finding("fail", "layout", f"these keys are of layout {layout}; this flowq reads {LAYOUT}")
    if state.now.ttl and not state.has_sentinel:
        yield Finding(
            "warn",
            "members",
            "the list of members is gone: the next call begins a new epoch, and limited types rest for one lease TTL",
        )
    for lane, pools in state.serve.items():
        for pool in set(pools.split()) - state.pools:
            yield Finding(
                "fail", "pools", f"type {lane} is said to be served by pool {pool}, which does not exist"
            )
    for lane in state.limits:
        if lane in state.paused and state.limits[lane] != "0":
            yield Finding(
                "fail", "limits", f"type {lane} is paused, but its limit in force is {state.limits[lane]}"
            )


def _lane(client: redis.Redis, keys: Keys, lane: str, state: _State, where: str) -> Iterator[Finding]:
    s = keys.stream(lane)
    pools = state.serve.get(lane, "").split()
    asks: list[tuple[Arg, ...]] = [
        ("XLEN", s),
        ("XINFO", "GROUPS", s),
        ("XPENDING", s, GROUP),
        ("ZRANGE", keys.members, 0, -1),
        ("SISMEMBER", keys.orphans, lane),
        *(("SISMEMBER", keys.ready(p), lane) for p in pools),
    ]
    length, groups, summary, members, in_orphans, *marked = read_many(client, asks, where)
    group = next((g for g in map(raw_pairs, groups or ()) if text(g["name"]) == GROUP), None)
    if group is None:
        if state.now.fields.get(f"g:{lane}"):
            yield Finding(
                "warn",
                lane,
                "its consumer group is gone: somebody flushed or deleted it; the next claim makes it anew",
            )
        return
    pending = int(group["pending"])
    owners = {text(owner): int(n) for owner, n in (summary[3] if summary else None) or ()}
    present = {text(m) for m in members}
    loose = {o: n for o, n in owners.items() if o == HANDED_BACK or o not in present}
    if loose and not in_orphans:
        yield Finding(
            "fail",
            lane,
            f"{sum(loose.values())} jobs belong to {_names(loose)}, and nobody will look there: they are stuck",
        )
    yield from _limit(lane, pending, state)
    if length < pending:
        yield Finding(
            "warn", lane, f"{pending - length} jobs in flight were deleted from the stream by somebody else"
        )
    if (length > pending or (loose and in_orphans)) and not all(marked):
        yield Finding(
            "fail", lane, "it has work, and a pool that serves it was not told: it waits for the next enqueue"
        )
    yield from _stranded(client, keys, lane, text(group["last-delivered-id"]), where)


def _limit(lane: str, used: int, state: _State) -> Iterator[Finding]:
    if lane in state.paused:
        return
    limit = state.limits.get(lane)
    if limit is not None and used > int(limit):
        yield Finding(
            "warn",
            lane,
            f"{used} jobs are in flight at limit {limit}: lawful only while jobs that started before the limit was lowered run on",
        )


def _stranded(client: redis.Redis, keys: Keys, lane: str, last: str, where: str) -> Iterator[Finding]:
    """Delivered entries that are in the stream and in nobody's hands: jobs that will never run."""
    s = keys.stream(lane)
    rows, pending = read_many(
        client,
        [("XRANGE", s, "-", last, "COUNT", LOOK_ENTRIES), ("XPENDING", s, GROUP, "-", last, LOOK_ENTRIES)],
        where,
    )
    held = {text(p[0]) for p in pending or ()}
    lost = [text(row[0]) for row in rows if text(row[0]) not in held]
    if lost:
        yield Finding(
            "fail",
            lane,
            f"{len(lost)} jobs were delivered and belong to nobody: they will never run (first: {lane}:{lost[0]})",
        )


# --- tables that point at each other --------------------------------------------------------------------------------------


def _delayed(client: redis.Redis, keys: Keys, where: str) -> Iterator[Finding]:
    n, data = read_many(client, [("ZCARD", keys.delayed), ("HLEN", keys.delayed_data)], where)
    if n != data:
        yield Finding(
            "fail",
            "delayed",
            f"{n} delayed jobs have a due time, {data} have an envelope: the two must be equal",
        )


def _followed(client: redis.Redis, keys: Keys, where: str) -> Iterator[Finding]:
    """Rows kept by a job's entry, of jobs that have ended: nothing is wrong with jobs, but they will never be deleted."""
    moved = _rows(client, "HSCAN", keys.moved)
    entries = [(job.partition(":")[0], entry) for job, entry in moved]
    yield from _dangling(client, keys, "moved", entries, where)
    cancels = [row.partition("|") for row, _ in _rows(client, "HSCAN", keys.cancels)]
    yield from _dangling(client, keys, "cancels", [(lane, entry) for lane, _, entry in cancels], where)
    for key in _scan(client, keys.crashes("*")):
        lane = key.removeprefix(keys.crashes(""))
        yield from _dangling(
            client, keys, f"crashes:{lane}", [(lane, e) for e, _ in _rows(client, "HSCAN", key)], where
        )


def _dangling(
    client: redis.Redis, keys: Keys, table: str, entries: list[tuple[str, str]], where: str
) -> Iterator[Finding]:
    if not entries:
        return
    asks: list[tuple[Arg, ...]] = [("XPENDING", keys.stream(lane), GROUP, e, e, 1) for lane, e in entries]
    asks += [("XRANGE", keys.stream(lane), e, e) for lane, e in entries]
    replies = read_many(client, asks, where)
    gone = [
        f"{lane}:{entry}"
        for (lane, entry), own, row in zip(
            entries, replies[: len(entries)], replies[len(entries) :], strict=True
        )
        if not own and not row
    ]
    if gone:
        yield Finding(
            "warn", table, f"{len(gone)} rows are of jobs that are not there any more (first: {gone[0]})"
        )


def _families(client: redis.Redis, keys: Keys) -> Iterator[Finding]:
    for key in _scan(client, keys.prefix + "*"):
        name = key.removeprefix(keys.prefix)
        passing = any(fnmatch.fnmatchcase(name, p) for p in PASSING)
        if passing and execute_sync(client, "PTTL", key) == -1:
            yield Finding("warn", "keys", f"{key} has no TTL and should have one")
        elif not passing and not any(fnmatch.fnmatchcase(name, p) for p in FOREVER):
            yield Finding(
                "warn", "keys", f"{key} is not a key of this layout: somebody else's, or a newer flowq's"
            )


def _rows(client: redis.Redis, command: str, key: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cursor: Any = 0
    while len(found) < LOOK:
        cursor, flat = execute_sync(client, command, key, cursor, "COUNT", LOOK)
        found += pairs(flat).items()
        if int(cursor) == 0:
            break
    return found[:LOOK]


def _scan(client: redis.Redis, pattern: str) -> Iterator[str]:
    cursor: Any = 0
    seen: set[str] = set()
    while True:
        cursor, found = execute_sync(client, "SCAN", cursor, "MATCH", pattern, "COUNT", LOOK)
        for key in found:
            name = text(key)
            if name not in seen:
                seen.add(name)
                yield name
        if int(cursor) == 0:
            return


def _names(owners: Mapping[str, int]) -> str:
    return ", ".join(
        "nobody (handed back)" if o == HANDED_BACK else f"dead worker {o}" for o in sorted(owners)
    )
