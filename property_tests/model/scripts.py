"""The other scripts, each one atomic step of the server: ``(world, server, ...) -> (server, ...)``."""

from __future__ import annotations

from typing import NamedTuple

from property_tests.model.change import advance
from property_tests.model.claim import find, hinted, ring
from property_tests.model.state import (
    ACKED,
    AGAIN,
    BACKLOG,
    ENDED,
    EPOCH,
    FENCED,
    GONE,
    HANDED_BACK,
    LOST,
    OK,
    RUNNING,
    STALE,
    SUCCEEDED,
    Change,
    Entry,
    Held,
    Member,
    Server,
)
from property_tests.model.world import UNLIMITED, World

Keys = tuple[tuple[int, int], ...]


class Settled(NamedTuple):
    server: Server
    answers: tuple[tuple[int, int, int, str], ...]
    """(entry, n, epoch of the delivery, answer)."""
    bad: str | None


def lanes_of(c: World, entries: tuple[Entry, ...] | list[Entry]) -> int:
    mask = 0
    for e in entries:
        mask |= 1 << c.jobs[e.job]
    return mask


def with_member(members: tuple[Member, ...], me: Member) -> tuple[Member, ...]:
    return tuple(sorted([x for x in members if x.id != me.id] + [me]))


def hand_back(c: World, s: Server, entries: list[Entry], site: str, pool: int) -> Server:
    """XCLAIM to ``-`` JUSTID: n stays, nothing is counted; then the hint and a ring."""
    ids = {e.id for e in entries}
    back = tuple(e._replace(owner=HANDED_BACK) if e.id in ids else e for e in s.entries)
    s = hinted(c, s._replace(entries=back), site, lanes_of(c, entries))
    return ring(c, s, site, (), pool, tuple({c.jobs[e.job] for e in entries}))


def _settle_one(c: World, s: Server, now: int, member: int, x: Held) -> tuple[Server, str, str | None]:
    b = c.broken
    if x.epoch != now and not b.settle_no_epoch:
        return s, EPOCH, None
    e = next((e for e in s.entries if e.id == x.id and e.owner != ACKED), None)
    if e is None or e.owner == BACKLOG:
        return s, GONE, None
    mine = e.owner == member or b.no_owner
    same = e.n == x.n or b.no_n or b.no_owner
    if not mine or not same:
        return s, FENCED, None
    bad = None
    if e.owner != member or e.n != x.n:
        bad = "P4 a stale delivery settled the entry of a newer one"
    elif e.job != x.job:
        bad = "LOSS settled the entry of another job (stream id given out again)"
    rest = tuple(y for y in s.entries if y.id != x.id)
    if x.phase == SUCCEEDED:
        out = s.outcomes[: e.job] + (s.outcomes[e.job] + 1,) + s.outcomes[e.job + 1 :]
        if b.ack_no_delete:
            rest = tuple(Entry(y.id, y.job, ACKED, 0, 0) if y.id == x.id else y for y in s.entries)
        s = s._replace(entries=rest, outcomes=out)
    elif x.phase == AGAIN:
        s = s._replace(entries=rest, delayed=s.delayed if b.retry_in_two else s.delayed | 1 << e.job)
    elif b.release_leaks:
        s = s._replace(entries=rest)
    else:
        back = tuple(y._replace(owner=HANDED_BACK) if y.id == x.id else y for y in s.entries)
        s = hinted(c, s._replace(entries=back), "release", 1 << c.jobs[e.job])
        s = ring(c, s, "settle", (), -1, (c.jobs[e.job],))
    return s, OK, bad


def settle(
    c: World, s: Server, now: int, member: int, ended: tuple[Held, ...], alone: bool, pool: int
) -> Settled:
    """Owner and n decide; liveness is not asked. It rings only if no claim of its own follows (``alone``), or on release."""
    answers: list[tuple[int, int, int, str]] = []
    bad = None
    for x in ended:
        s, answer, why = _settle_one(c, s, now, member, x)
        bad = bad or why
        answers.append((x.id, x.n, x.epoch, answer))
    if alone:
        s = ring(c, s, "settle", c.lanes, pool)
    return Settled(s, tuple(answers), bad)


def renew(c: World, s: Server, now: int, member: int, epoch: int, heard: Change = ()) -> tuple[Server, str]:
    """The thread's: extends the lease of a live member, and says whether it is of this epoch. Never re-adds."""
    b = c.broken
    me = find(s.members, member)
    if me is None and not b.readd:
        return s, LOST
    if epoch != now and b.epoch_extends_not:
        return s, EPOCH
    pool = me.pool if me else 0
    again = (me or Member(member, 0, 0, pool))._replace(left=s.ttl, heard=heard)
    s = s._replace(members=with_member(s.members, again), open=s.open and heard == s.change)
    s = advance(c, s)
    return s, OK if epoch == now or b.thread_extends else EPOCH


def confirm(
    c: World, s: Server, member: int, known: tuple[Held, ...]
) -> tuple[Server, str, tuple[tuple[int, int, int], ...]]:
    """Extends; confirmed = pending now with owner m and counter n. Nothing is claimed, added or forced."""
    me = find(s.members, member)
    if me is None:
        return s, LOST, ()
    owned = {(e.id, e.n) for e in s.entries if e.owner == member}
    confirmed = tuple((x.id, x.job, x.n) for x in known if (x.id, x.n) in owned or c.broken.no_confirm)
    return s._replace(members=with_member(s.members, me._replace(left=s.ttl))), OK, confirmed


def mine(
    c: World, s: Server, member: int, session: int, known: Keys
) -> tuple[Server, str, tuple[tuple[int, int, int], ...]]:
    """Hands back what the member does not know of, and shuts out its older sessions. The grants are W4's only."""
    b = c.broken
    me = find(s.members, member)
    if me is None:
        return s, LOST, ()
    if session < me.session and not b.no_session:
        return s, STALE, ()
    s = s._replace(members=with_member(s.members, me._replace(session=session)))
    unknown = [e for e in s.entries if e.owner == member and ((e.id, e.n) not in known or b.mine_all)]
    if b.mine_starts:
        return s, OK, tuple((e.id, e.job, e.n) for e in unknown)
    return (hand_back(c, s, unknown, "mine", me.pool) if unknown else s), OK, ()


def join(
    c: World, s: Server, me: Member, old: tuple[int, ...], keep: tuple[Held, ...]
) -> tuple[Server, Keys]:
    """A new member. What the old ids still own and ``keep`` names (entry and n) moves to it; their rest is handed back."""
    b = c.broken
    entries: list[Entry] = []
    back: list[Entry] = []
    kept: list[tuple[int, int]] = []
    for e in s.entries:
        named = next(
            (x for x in keep if x.id == e.id and (x.n == e.n or b.keep_no_n or b.keep_no_owner)), None
        )
        refused = b.join_hands_back_all or (b.keep_by_class and s.limits[c.jobs[e.job]] < UNLIMITED)
        owned = e.owner in old or (b.keep_no_owner and e.owner not in (BACKLOG, HANDED_BACK))
        if named and owned and not refused:
            kept.append((named.id, named.n))
            entries.append(e._replace(owner=me.id))
        else:
            entries.append(e)
            if e.owner in old:
                back.append(e)
    me = me._replace(left=s.ttl, heard=s.change)
    members = tuple(sorted([x for x in s.members if x.id not in old] + [me]))
    hungry = tuple(x for x in s.hungry if x.member not in old)
    s = advance(c, s._replace(entries=tuple(entries), members=members, hungry=hungry))
    return (hand_back(c, s, back, "join", me.pool) if back else s), tuple(kept)


def leave(c: World, s: Server, member: int, pool: int) -> Server:
    """Everything still pending is handed back uncounted; the member is out. Rings also for a ring that its reader took along."""
    s = s._replace(
        members=tuple(x for x in s.members if x.id != member),
        hungry=tuple(x for x in s.hungry if x.member != member),
    )
    s = hand_back(c, s, [e for e in s.entries if e.owner == member], "leave", pool)
    return ring(c, s, "leave", c.lanes, pool)


def add(c: World, s: Server, job: int, site: str) -> Server:
    """XADD, the hint, a ring: the end of submit and of promote."""
    s = s._replace(
        entries=(*s.entries, Entry(s.last_id + 1, job, BACKLOG, 0, 0)),
        last_id=s.last_id + 1,
        submitted=s.submitted | 1 << job,
    )
    s = hinted(c, s, site, 1 << c.jobs[job])
    return ring(c, s, site, (c.jobs[job],))


def set_limit(c: World, s: Server, lane: int, limit: int) -> Server:
    """A number in a hash; never touches tokens. Raising it rings."""
    entries = s.entries
    if c.broken.lower_kills:
        over = [
            e.id for e in entries if e.owner not in (BACKLOG, HANDED_BACK, ACKED) and c.jobs[e.job] == lane
        ]
        entries = tuple(e._replace(owner=HANDED_BACK) if e.id in over[limit:] else e for e in entries)
    raised = limit > s.limits[lane]
    s = s._replace(entries=entries, limits=s.limits[:lane] + (limit,) + s.limits[lane + 1 :])
    return ring(c, s, "limit", (lane,)) if raised else s


def expire(c: World, s: Server, ticks: int, kept_alive: set[int]) -> Server:
    """Time passes on the logical clock; members whose lease ends are out, and their lanes may have something to adopt."""
    members = tuple(
        x if x.id in kept_alive else x._replace(left=x.left - ticks)
        for x in s.members
        if x.left > ticks or x.id in kept_alive
    )
    alive = {x.id for x in members}
    gone = {x.id for x in s.members} - alive
    hungry = s.hungry
    if hungry:
        step = 0 if c.broken.hungry_forever else ticks
        hungry = tuple(
            x._replace(left=x.left - step)
            for x in hungry
            if x.left > step and (x.member in alive or c.broken.hungry_forever)
        )
    since = min(max(c.ttl, c.to), s.since + ticks) if c.to else 0
    due, quarantine = max(0, s.due - ticks), max(0, s.quarantine - ticks)
    s = s._replace(members=members, quarantine=quarantine, hungry=hungry, since=since, due=due)
    return hinted(c, s, "expiry", lanes_of(c, [e for e in s.entries if e.owner in gone])) if gone else s


def unsettled(held: tuple[Held, ...]) -> tuple[Held, ...]:
    return tuple(x for x in held if x.phase in ENDED)


def running(held: tuple[Held, ...]) -> bool:
    return any(x.phase == RUNNING for x in held)
