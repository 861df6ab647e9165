"""A whole app at one moment, from its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from flowq._fleet import ttl_change
from flowq.backends.redis.facts import Facts, Now, read_facts
from flowq.backends.redis.keys import Keys
from flowq.backends.redis.lanes import read_lanes
from flowq.backends.redis.reader import pairs, read_many
from flowq.backends.redis.views import Snapshot, TtlView, WorkerView

if TYPE_CHECKING:
    import redis


def take(client: redis.Redis, keys: Keys, name: str, namespace: str | None, where: str) -> Snapshot:
    """Read the app whose keys these are.

    Raises:
        ServerError: no answer, or not an answer that can be used.
    """
    facts = read_facts(client, keys, where)
    lanes = read_lanes(client, keys, facts, where)
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
        lease_ttl_change=_change(now.fields, workers),
        quarantine=max(0, now.quarantine_end - now.lease) / 1000,
        epoch_age=_epoch_age(now),
        letters=facts.letters,
        cancelling=facts.cancelling,
        types=tuple(lanes),
        workers=tuple(sorted(workers, key=lambda w: (w.host, w.pid))),
        server=facts.server,
    )


def _epoch_age(now: Now) -> float | None:
    # an epoch's name ends in the server's own time when it began, in µs; see clock.lua
    began = now.fields.get("ep", "").rpartition(".")[2]
    return max(0, now.time - int(began) // 1000) / 1000 if began.isdecimal() else None


def _change(clock: Mapping[str, str], workers: list[WorkerView]) -> TtlView | None:
    both = ttl_change(clock.get("change", ""))
    if both is None:
        return None
    having = sum(w.alive and w.lease_ttl == both[1] for w in workers)
    return TtlView(before=both[0], to=both[1], is_open="open" in clock, workers=having)


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
        lease_ttl=int(row["ttl"]) / 1000 if "ttl" in row else None,
        draining="draining" in row,
        suspect=row.get("suspect"),
    )
