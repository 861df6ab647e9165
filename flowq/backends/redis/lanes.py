"""What is known of each lane at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from flowq._model import HANDED_BACK
from flowq.backends.redis.facts import LOOK, Facts, Now
from flowq.backends.redis.keys import GROUP, Keys
from flowq.backends.redis.letters import count_letters
from flowq.backends.redis.reader import counters, raw_pairs, read_many, text
from flowq.backends.redis.views import LongestView, TypeView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

LOOK_RUNNING = 100
"""Running jobs a type among which the longest is sought."""
MINUTES = 5
"""Whole minutes of the rates, and the current one."""


def read_lanes(client: redis.Redis, keys: Keys, facts: Facts, where: str) -> list[TypeView]:
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
    crashed = _crashed(
        client, keys, {lane for lane, row in rows.items() if counters(row[4]).get("crashed")}, minute, where
    )
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
                crashes_per_hour=crashed.get(lane, 0),
            )
        )
    return views


def _crashed(client: redis.Redis, keys: Keys, lanes: set[str], minute: int, where: str) -> dict[str, int]:
    """Crashes of the last hour, of the lanes that ever had one."""
    if not lanes:
        return {}
    ordered = sorted(lanes)
    minutes = range(minute - 59, minute + 1)
    found = read_many(
        client, [("HGET", keys.stats(lane, at), "crashed") for lane in ordered for at in minutes], where
    )
    return {lane: sum(int(n or 0) for n in found[60 * i : 60 * i + 60]) for i, lane in enumerate(ordered)}


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
    return TypeView(
        name=lane,
        ready=max(0, length - in_flight) + back,
        oldest_waiting=oldest,
        running=sum(running_by.values()),
        orphaned=sum(owners.values()) - sum(running_by.values()) - back,
        running_by=running_by,
        longest=_longest(pending or (), facts),
        limit=int(facts.limits[lane]) if lane in facts.limits else None,
        declared=(_declared(facts.pools[p].get(lane, "")) for p in serving),
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
        crashes_per_hour=0,
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
