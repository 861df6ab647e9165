"""The claim script: the only way in which a job reaches a worker (R6), with fair shares (R14), suspects (R15) and rings (R16)."""

from __future__ import annotations

from typing import NamedTuple

from property_tests.model.state import (
    ACKED,
    BACKLOG,
    EPOCH,
    HANDED_BACK,
    LOST,
    OK,
    STALE,
    Entry,
    Mark,
    Member,
    Server,
)
from property_tests.model.world import UNLIMITED, World

Grants = tuple[tuple[int, int, int], ...]


class Claimed(NamedTuple):
    server: Server
    status: str
    grants: Grants = ()
    withheld: bool = False
    """Something that could run was left to others: the caller is at its share, or holds a suspect already."""
    adopted: int = 0
    """Jobs taken from members whose lease had ended."""
    capped: int = 0
    """Lanes that were withheld for hungry members."""
    bad: str | None = None


class Tally(NamedTuple):
    """One lane's entries, as positions in the list."""

    pending: list[int]
    dead: list[int]
    """Pending, and the owner is no live member."""
    ready: list[int]


def find(members: tuple[Member, ...], member: int) -> Member | None:
    for x in members:
        if x.id == member:
            return x
    return None


def tally(c: World, s: Server, lane: int, alive: set[int]) -> Tally:
    """One pass over the entries of a lane: what is pending, what of it is adoptable, what is unread."""
    pending: list[int] = []
    dead: list[int] = []
    ready: list[int] = []
    for i, e in enumerate(s.entries):
        owner = e.owner
        if c.jobs[e.job] != lane or owner == ACKED:
            continue
        if owner == BACKLOG:
            ready.append(i)
            continue
        pending.append(i)
        if owner not in alive:
            dead.append(i)
    return Tally(pending, dead, ready)


def claimable(c: World, s: Server, lane: int) -> bool:
    """The lane has something to start and room under its limit."""
    limit = s.limits[lane]
    if s.quarantine and limit < UNLIMITED:
        return False
    t = tally(c, s, lane, {x.id for x in s.members})
    used = len(t.pending)
    if c.broken.ring_unread:
        return bool(t.ready) and used < limit
    return bool((t.ready and used < limit) or (t.dead and used - len(t.dead) < limit))


def ring(
    c: World,
    s: Server,
    site: str,
    lanes: tuple[int, ...] | range,
    pool: int = -1,
    always: tuple[int, ...] = (),
) -> Server:
    """Ring at the end of a write that leaves backlog and capacity: once for each pool that serves such a lane (R16).

    ``always``: lanes for which it rings unasked.
    """
    if not c.bell or c.broken.no_ring == site:
        return s
    wanting = {lane for lane in lanes if claimable(c, s, lane)}.union(always)
    if not wanting:
        return s
    own = c.broken.ring_own_pool and pool >= 0
    rings = tuple(
        min(c.bell, n + 1) if not wanting.isdisjoint(c.bells[p]) and (not own or p == pool) else n
        for p, n in enumerate(s.rings)
    )
    return s._replace(rings=rings)


def hinted(c: World, s: Server, site: str, lanes: int) -> Server:
    """Set the hint for lanes (a mask) that may have something by now."""
    return s._replace(ready=s.ready | lanes) if c.hint and c.broken.no_hint != site else s


def suspect(c: World, crashes: int) -> bool:
    return c.max_crashes > 0 and crashes == c.max_crashes - 1


def part(c: World, s: Server, lane: int, member: int, owners: list[int]) -> int:
    """What a claim may leave its caller of a lane, if somebody else is hungry; else no bound.

    Those who contend (the caller and the hungry) share what the others do not hold. The parts add up to at least that, so with
    an idle token some contender is below its own.
    """
    hungry = {x.member for x in s.hungry if x.lane == lane and x.member != member}
    if not hungry and not (c.broken.hungry_self and any(x.lane == lane for x in s.hungry)):
        return UNLIMITED
    limit = s.limits[lane]
    if c.broken.share_of_serving:
        return max(1, -(-limit // sum(lane in c.bells[x.pool] for x in s.members)))
    contending = len(hungry) + 1
    if c.broken.hungry_self:
        contending += any(x.lane == lane and x.member == member for x in s.hungry)
    rest = sum(owner != member and owner not in hungry for owner in owners)
    return -(-(limit - rest) // contending)


class _Claim:
    """One run of the script: what is left of the caller's room, and what the lanes looked at so far came to."""

    def __init__(self, c: World, s: Server, member: int, room: int) -> None:
        self.c, self.s, self.member, self.room = c, s, member, room
        self.alive = {x.id for x in s.members}
        self.entries: list[Entry | None] = list(s.entries)
        self.outcomes, self.dead = list(s.outcomes), s.dead
        self.grants: list[tuple[int, int, int]] = []
        self.seen: list[int] = []  # lanes not skipped
        self.short: list[int] = []  # lanes that have work left for which the caller had room
        self.reached: list[int] = []
        self.empty = self.adopted = self.capped = 0
        self.withheld = False
        self.bad: str | None = None
        self.suspected = any(e.owner == member and suspect(c, e.crashes) for e in s.entries)

    def lane(self, lane: int) -> None:
        c, s, b = self.c, self.s, self.c.broken
        limit = s.limits[lane]
        t = tally(c, s, lane, self.alive)
        if (not t.ready and not t.dead) or (b.hint_eager and len(t.pending) >= limit):
            self.empty |= 1 << lane
        if s.quarantine and limit < UNLIMITED and not b.adopt_in_quarantine:
            return
        if self.room > 0:
            self.reached.append(lane)
        self.seen.append(lane)
        used, held = len(t.pending), len(t.pending) - len(t.dead)
        if b.own_count:
            used = held = sum(s.entries[i].owner == self.member for i in t.pending)
        if b.used_live_only:
            used = held
        dead = [i for i in t.pending if s.entries[i].owner != self.member] if b.adopt_no_expiry else t.dead
        used = self.adopt(dead, limit, used, held)
        if s.quarantine and limit < UNLIMITED:
            return
        quota = self.quota(lane, limit, t)
        before = self.room
        left = self.read(t.ready, limit, used, quota)
        got = before - self.room
        if left and self.room > 0 and got >= quota and used + got < limit < UNLIMITED:
            self.withheld, self.capped = True, self.capped | 1 << lane
        if left and self.room > 0 and 0 < limit < UNLIMITED:
            self.short.append(lane)

    def quota(self, lane: int, limit: int, t: Tally) -> int:
        """How many may be read at most, beside the limit: the caller's part."""
        if not self.c.hungry:
            return UNLIMITED
        if limit >= UNLIMITED:
            return max(1, -(-len(t.ready) // max(1, len(self.alive))))
        owners = [e.owner for i in t.pending if (e := self.entries[i])]
        return max(0, part(self.c, self.s, lane, self.member, owners) - owners.count(self.member))

    def adopt(self, dead: list[int], limit: int, used: int, held: int) -> int:
        """Oldest first, bounded by held < limit; -> used."""
        c, b = self.c, self.c.broken
        for i in dead:
            e = self.entries[i]
            if self.room <= 0 or (held >= limit and not b.adopt_unbounded):
                break
            if e is None or (b.adopt_literal and used >= limit):
                break
            crashes = e.crashes
            if c.max_crashes and (e.owner != HANDED_BACK or b.handback_counts):
                crashes += 1
                if e.owner == HANDED_BACK:
                    self.bad = "COUNTED a handed-back delivery is counted as a crash"
            if c.max_crashes and crashes >= c.max_crashes:
                self.entries[i] = None
                self.outcomes[e.job] += 1
                self.dead |= 1 << e.job
                used -= 1
                continue
            if suspect(c, crashes) and not b.suspects_unbounded:
                if self.suspected:
                    self.withheld = True
                    continue
                self.suspected = True
            if e.owner != HANDED_BACK and c.keep:
                self.adopted |= 1 << e.job
            self.entries[i] = Entry(e.id, e.job, self.member, e.n + 1, crashes)
            self.grants.append((e.id, e.job, e.n + 1))
            self.room, held = self.room - 1, held + 1
        return used

    def read(self, ready: list[int], limit: int, used: int, quota: int) -> int:
        """XREADGROUP >; -> entries left unread."""
        take = max(0, min(self.room, limit - used, quota, len(ready)))
        for i in ready[:take]:
            e = self.s.entries[i]
            self.entries[i] = Entry(e.id, e.job, self.member, 1, e.crashes)
            self.grants.append((e.id, e.job, 1))
        self.room -= take
        return len(ready) - take

    def result(self, pool: int) -> Claimed:
        c, s = self.c, self.s
        served = c.bells[pool]
        hungry = s.hungry
        if c.hungry:
            hungry = tuple(x for x in s.hungry if x.member != self.member or x.lane not in self.seen)
            if self.room > 0:
                hungry = tuple(sorted(hungry + tuple(Mark(x, self.member, c.hungry) for x in self.short)))
        new = s._replace(
            entries=tuple(e for e in self.entries if e),
            outcomes=tuple(self.outcomes),
            dead=self.dead,
            hungry=hungry,
            ready=s.ready & ~self.empty if c.hint else 0,
        )
        new = ring(c, new, "chain", tuple(self.reached) if c.broken.chain_short else served, pool)
        return Claimed(new, OK, tuple(self.grants), self.withheld, self.adopted, self.capped, self.bad)


def claim(
    c: World, s: Server, now: int, member: int, session: int, epoch: int, room: int, pool: int
) -> Claimed:
    """Adopt, then read, lane by lane; nothing for the dead, a stale session or another epoch. ``room`` 0 passes a ring on."""
    b = c.broken
    me = find(s.members, member)
    status = OK
    if me is None and not b.claim_no_live:
        status = LOST
    elif me and session < me.session and not b.no_session:
        status = STALE
    elif epoch != now and not b.claim_no_epoch:
        status = EPOCH
    if status != OK:
        return Claimed(s, status)
    if room <= 0:  # a ring is passed on to the caller's pool, whatever there is to do
        rings = tuple(max(n, int(p == pool)) for p, n in enumerate(s.rings))
        s = s._replace(rings=rings if c.bell else s.rings)
    run = _Claim(c, s, member, room)
    for lane in c.bells[pool]:
        if not c.hint or s.ready >> lane & 1:
            run.lane(lane)
    return run.result(pool)
