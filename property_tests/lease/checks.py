"""The promises, looked at after every single script call. Each is a function of the server's keys and of our own book."""

from __future__ import annotations

import fnmatch
import json
import math
import re
from collections.abc import Callable

from .ledger import Ledger, Violation, uid_of
from .member import Member
from .state import LANES, State


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(p) for p in patterns))


KNOWN_KEYS = _any_of(
    *(
        "clock",
        "members",
        "expired",
        "member:*",
        "pools",
        "pm:*",
        "pool:*",
        "ready:*",
        "full:*",
        "bell:*",
        "serve",
        "types",
    ),
    *(
        "limits",
        "override",
        "paused",
        "orphans",
        "s:a",
        "s:b",
        "s:u",
        "delayed",
        "delayed:d",
        "moved",
        "dead",
        "cancels",
    ),
    *("crashes:*", "hungry:*", "full:*", "once:*", "r:*", "u:*", "stats:*"),
)
AT_REST = _any_of(
    *(
        "clock",
        "members",
        "types",
        "limits",
        "override",
        "s:*",
        "dead",
        "once:*",
        "r:*",
        "stats:*",
        "hungry:*",
    ),
    "orphans",
)
"""What may be left when every job has ended and every worker has left. `orphans` is a hint that outlives its cause."""

FORGETS_HOLDERS = frozenset({"failover", "flush", "members", "clock", "group"})
"""Losses after which an unlimited job may run twice for a moment: nothing keeps it from starting again, only its settle is fenced."""


def no_loss(now: int, state: State, book: Ledger) -> list[str]:
    """Each job that is open is in exactly one place, each that has ended in none; returns those that are nowhere."""
    places: dict[str, list[str]] = {}
    for lane in LANES:
        for entry, envelope in state.lanes[lane].entries.items():
            places.setdefault(uid_of(envelope), []).append(f"{lane} {entry}")
    for job_id, row in state.delayed_data.items():
        places.setdefault(uid_of(row.partition("|")[2]), []).append(f"delayed {job_id}")
    if set(state.delayed) != set(state.delayed_data):
        raise Violation("one place", f"delayed {set(state.delayed)} but data of {set(state.delayed_data)}")
    nowhere = []
    letters = {uid_of(letter["d"]) for letter in state.dead}
    for uid, job in book.jobs.items():
        where = places.pop(uid, [])
        if len(where) > 1:
            raise Violation("one place", f"{uid} is in {where}")
        if job.state != "open" and where:
            raise Violation("one outcome", f"{uid} is {job.state} and still in {where}")
        if job.state == "open" and where and uid in letters:
            raise Violation("one outcome", f"{uid} has a dead letter and is still in {where}")
        if job.state == "open" and not where:
            nowhere.append(uid)
    if places:
        raise Violation("no ghost", f"nobody submitted {places}")
    return nowhere


def concurrency(now: int, state: State, book: Ledger) -> None:
    """Bodies inside their lease are at most the largest limit since the oldest was admitted; no job has two of them."""
    book.bodies = [b for b in book.bodies if b.runs(now)]
    by_lane: dict[str, list[float]] = {}
    running: dict[str, str] = {}
    for body in book.bodies:
        limit = state.limits.get(body.lane)
        if limit is not None or body.lane == "u":
            body.bound = max(body.bound, float("inf") if limit is None else limit)
        if not body.leased(now):
            continue
        if body.limited or not book.lost & FORGETS_HOLDERS:
            if body.job in running:
                raise Violation("one body", f"{body.job} runs at {body.life} and {running[body.job]}")
            running[body.job] = body.life
        by_lane.setdefault(body.lane, []).append(body.bound)
    for lane, bounds in by_lane.items():
        if len(bounds) > max(bounds):
            raise Violation("limit", f"{len(bounds)} bodies of {lane}, limit {max(bounds):g}")


def tokens(now: int, state: State, book: Ledger) -> None:
    """Entries in flight are at most the limit, or fewer than they were: no grant goes beyond it."""
    for name, lane in state.lanes.items():
        limit = state.limits.get(name)
        if limit is not None and lane.used > max(limit, book.used.get(name, lane.used)):
            raise Violation("tokens", f"{lane.used} in flight in {name}, limit {limit}")
        book.used[name] = lane.used


def owners(now: int, state: State, book: Ledger) -> None:
    """Every owner is alive, or not buried yet, or its lane can be found by whoever serves it (once a lost fleet was noticed)."""
    for name, lane in state.lanes.items():
        for entry, (owner, _) in lane.pending.items():
            found = name in state.orphans and _in_ready(state, name)
            if state.sentinel and owner not in state.members and not found:
                raise Violation(
                    "findable", f"{name} {entry} of {owner!r}, orphans {state.orphans}, ready {state.ready}"
                )
            if owner not in lane.consumers:
                raise Violation("findable", f"{owner} owns {entry} and is no consumer")


def _in_ready(state: State, lane: str) -> bool:
    return all(lane in state.ready.get(pool, ()) for pool in state.serve.get(lane, ()))


def hints(now: int, state: State, book: Ledger) -> None:
    """A lane with backlog is in ready:<pool> of every pool that serves it (until a group was destroyed under us)."""
    for name, lane in state.lanes.items():
        if lane.backlog > 0 and lane.group and "group" not in book.lost and not _in_ready(state, name):
            raise Violation("ready", f"{name} has backlog {lane.backlog}; ready {state.ready}")


def fleet(now: int, state: State, book: Ledger) -> None:
    """serve, pools, pm, members, limits tell one story (from when the loss of one of them was noticed)."""
    if not state.sentinel or not state.clock.get("ttl"):
        return
    if sorted(m for p in state.pools for m in state.pm[p]) != sorted(state.members):
        raise Violation("fleet", f"pm {state.pm} but members {state.members}")
    for pool in state.pools:
        if not state.pm[pool]:
            raise Violation("fleet", f"pool {pool} without a member")
        for m in state.pm[pool]:
            if state.member.get(m, {}).get("pool") != pool:
                raise Violation("fleet", f"{m} is in {pool} and says {state.member.get(m)}")
    for lane in LANES:
        serving = sorted(p for p in state.pools if lane in state.pool[p])
        if serving != sorted(state.serve.get(lane, ())):
            raise Violation("fleet", f"{lane} is served by {serving}, serve says {state.serve.get(lane)}")
        if serving and state.limits.get(lane) != (wanted := _limit(state, lane, serving)):
            raise Violation("limits", f"{lane}: {state.limits.get(lane)} in force, should be {wanted}")
    for key in state.keys:
        kind, _, pool = key.partition("}:")[2].partition(":")
        if kind in ("pm", "pool", "ready", "bell") and pool not in state.pools:
            raise Violation("fleet", f"{key} of a pool that is gone")
        if kind == "member" and pool not in state.members and pool not in state.expired:
            raise Violation("fleet", f"{key} of a member that is gone")


def _limit(state: State, lane: str, serving: list[str]) -> int | None:
    if lane in state.paused:
        return 0
    if lane in state.override:
        return int(state.override[lane])
    declared = [int(d) for p in serving if (d := state.pool[p][lane].partition("|")[0])]
    return min(declared) if declared else None


def leftovers(now: int, state: State, book: Ledger) -> None:
    """Nothing is kept by the id of an entry that is gone; consumers are at most the living, the dead that owe, and `-`."""
    for name, lane in state.lanes.items():
        held = lane.pending if "group" not in book.lost else lane.entries
        if extra := set(lane.crashes) - set(held):
            raise Violation("leftovers", f"crash counts of {extra} in {name}")
        if state.sentinel and (extra := set(lane.full) - set(state.members)):
            raise Violation("leftovers", f"{extra} is gone and marked as full in {name}")
        if state.sentinel and (extra := set(lane.consumers) - {*state.members, *state.expired, "-"}):
            raise Violation("consumers", f"{extra} in {name}")
        if lane.hungry and max(lane.hungry.values()) - min(lane.hungry.values()) > 60_000:
            raise Violation("leftovers", f"marks of the hungry of long ago in {name}: {lane.hungry}")
    for pool in state.pools:
        if len(state.bell[pool]) > 1:
            raise Violation("consumers", f"{state.bell[pool]} at the bell of {pool}: one name serves all")
    open_entries = {f"{name}|{e}" for name, lane in state.lanes.items() for e in lane.entries}
    if extra := set(state.cancels) - open_entries:
        raise Violation("leftovers", f"cancels of {extra}")
    open_ids = {json.loads(e).get("id") for lane in state.lanes.values() for e in lane.entries.values()}
    if extra := set(state.moved) - open_ids:
        raise Violation("leftovers", f"moved {extra}")
    keys = {f"u:{j.lane}:{j.key}" for j in book.jobs.values() if j.key and j.state == "open"}
    for key in state.keys:
        tail = key.partition("}:")[2]
        if not KNOWN_KEYS.fullmatch(tail):
            raise Violation("keys", f"{key} is on no list")
        if tail.startswith("u:") and tail not in keys:
            raise Violation("leftovers", f"{key} of a job that has ended")


def suspects(now: int, state: State, book: Ledger, max_crashes: int = 3) -> None:
    """A live member holds at most one delivery that is one crash short of the end."""
    worst: dict[str, list[str]] = {}
    for name, lane in state.lanes.items():
        for entry, n in lane.crashes.items():
            owner, times = lane.pending.get(entry, ("-", 0))
            # times 1: its group was destroyed and it was read as if it were new
            if owner in state.members and n == max_crashes - 1 and times > 1:
                worst.setdefault(owner, []).append(f"{name} {entry}")
    for owner, held in worst.items():
        if len(held) > 1:
            raise Violation("suspects", f"{owner} holds {held}")


ALWAYS: tuple[Callable[[int, State, Ledger], None], ...] = (
    *(concurrency, tokens, owners, hints, fleet, leftovers, suspects),
)


def idle_work(state: State, who: Member, room: int, threads: int, got: dict[str, int]) -> str | None:
    """Is there work that this member (live, confirmed, with room left after a claim) ought to have taken?"""
    if room <= 0:
        return None
    for name in who.lanes:
        lane, limit = state.lanes[name], state.limits.get(name)
        # a destroyed group is noticed by whoever needs it next
        if not lane.group or (limit is not None and state.l < state.q) or (name == "b" and threads <= 0):
            continue
        held, dead = state.holders(name)
        # an unlimited lane gives each its part, and one at least; a limited one does while others are hungry
        if (limit is None and got[name]) or (limit is not None and state.hungry(name, who.id)):
            continue
        if lane.backlog > 0 and (limit is None or lane.used < limit):
            return f"{name}: backlog {lane.backlog}, {lane.used} in flight, limit {limit}"
        if dead and (limit is None or held < limit):
            suspect = state.member.get(who.id, {}).get("suspect")
            free = [
                e
                for e, (owner, _) in lane.pending.items()
                if not state.live(owner) and not (suspect and lane.crashes.get(e, 0) + (owner != "-") >= 2)
            ]
            if free:
                return f"{name}: {free} of the dead, {held} held, limit {limit}"
    return None


def fair_share(state: State, who: str, fresh: dict[str, int]) -> str | None:
    """Did a claim leave to the hungry of a lane their part of what those who contend for it can have?"""
    for name, got in fresh.items():
        lane, limit = state.lanes[name], state.limits.get(name)
        hungry = {m for m in state.hungry(name, who) if state.live(m)}
        if not got or limit is None or not hungry:
            continue
        owners = [owner for owner, _ in lane.pending.values()]
        held = owners.count(who)
        others = sum(owner != who and owner not in hungry for owner in owners)
        if held > (part := math.ceil((limit - others) / (len(hungry) + 1))):
            return f"{who} holds {held} of {name} after its claim, {hungry} are hungry, its part is {part}"
    return None


def at_rest(state: State) -> None:
    """Every job has ended and every worker has left: what may still be there?"""
    for name, lane in state.lanes.items():
        if lane.entries or lane.pending:
            raise Violation("at rest", f"{name} holds {lane.entries} {lane.pending}")
    for key in state.keys:
        tail = key.partition("}:")[2]
        if not AT_REST.fullmatch(tail):
            raise Violation("at rest", f"{key} is left")
