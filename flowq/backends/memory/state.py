"""The facts, and the questions that can be answered from them alone."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

import attrs
import msgspec

from flowq._model import HANDED_BACK, LanePolicy, MemberFacts, Receipt
from flowq.backends.memory.clock import Clock

DEFAULT_TTL_MS = 10_000
HUNGRY_MS = 1_500
"""How long a claim that came up short caps others (logical): a dead or stalled member cannot cap them longer."""


@attrs.define(eq=False)
class Pending:
    """One entry in flight. It is the limit's token, too: there is no other count of what runs."""

    raw: bytes
    owner: str
    n: int
    fence: int
    """Of its last grant. Only ``audit`` reads it: ownership is decided by owner, n and epoch."""


@attrs.define(eq=False)
class Lane:
    """A stream of jobs with one consumer group."""

    name: str
    unread: OrderedDict[str, bytes] = attrs.Factory(OrderedDict)
    pending: dict[str, Pending] = attrs.Factory(dict)
    owned: dict[str, int] = attrs.Factory(dict)
    """owner → how many pending entries; no zeros."""
    crashes: dict[str, int] = attrs.Factory(dict)
    hungry: dict[str, int] = attrs.Factory(dict)
    """member → logical ms of the claim that came up short although the lane had work."""
    nudged: set[str] = attrs.Factory(set)
    """Hungry members for whom a capped one has passed on a ring already: once is enough."""
    last: tuple[int, int] = (0, 0)
    ceiling: int | None = None
    """The largest limit in force since the entries now in flight were admitted; None: unlimited."""

    @property
    def used(self) -> int:
        return len(self.pending)

    def mint(self, now: int) -> str:
        """A new entry id, ``<ms>-<seq>``, greater than every one before it, whatever the clock does."""
        ms, seq = self.last
        self.last = (now, 0) if now > ms else (ms, seq + 1)
        return f"{self.last[0]}-{self.last[1]}"

    def put(self, entry: str, raw: bytes) -> None:
        self.unread[entry] = raw

    def read(self, owner: str, fence: int) -> tuple[str, Pending]:
        """Deliver the oldest unread entry for the first time."""
        entry, raw = self.unread.popitem(last=False)
        self.pending[entry] = Pending(raw, owner, 1, fence)
        self.owned[owner] = self.owned.get(owner, 0) + 1
        return entry, self.pending[entry]

    def hand(self, entry: str, owner: str) -> Pending:
        """Change the owner of a pending entry; what that does to its count ``n`` is the caller's business."""
        pending = self.pending[entry]
        self._less(pending.owner)
        pending.owner = owner
        self.owned[owner] = self.owned.get(owner, 0) + 1
        return pending

    def drop(self, entry: str) -> None:
        """Acknowledge and delete it, wherever it lies."""
        self.unread.pop(entry, None)
        pending = self.pending.pop(entry, None)
        if pending is not None:
            self._less(pending.owner)
        self.crashes.pop(entry, None)

    def _less(self, owner: str) -> None:
        self.owned[owner] -= 1
        if not self.owned[owner]:
            del self.owned[owner]


@attrs.define(eq=False)
class Member:
    name: str
    pool: str
    expiry: int
    """Logical ms."""
    facts: MemberFacts
    session: int = 0
    expired: bool = False
    """It stays as long as it owns something, so that its entries are known for a dead member's."""
    running: int = 0


@attrs.define(eq=False)
class Pool:
    """The live members that serve the same lanes by the same policies; they share a doorbell."""

    name: str
    lanes: dict[str, LanePolicy]
    members: set[str] = attrs.Factory(set)
    turn: str = ""
    """The lane that was granted last: the next claim begins behind it."""


@attrs.define(eq=False)
class Delayed:
    lane: str
    raw: bytes
    due: int
    """Waiting-clock ms."""
    order: int


@attrs.define(eq=False)
class CancelRequest:
    reason: str
    record: bytes
    ttl_ms: int


@attrs.frozen
class DeadLetter:
    """A job that will not run again by itself."""

    job_id: str
    lane: str
    entry: str
    envelope: bytes
    kind: str
    reason: str
    detail: bytes
    at_ms: int


@attrs.define
class Effects:
    """What a call did that somebody may be waiting for; the server passes it on when the call is over."""

    pools: dict[str, None] = attrs.Factory(dict)
    jobs: set[str] = attrs.Factory(set)
    control: bool = False


class Identity(msgspec.Struct):
    """What the server itself reads of an envelope."""

    id: str = ""
    key: str = ""


@attrs.define(eq=False)
class State:
    """Everything that a server would lose with its memory. Plain data: a deep copy of it is a replica."""

    epoch: str
    clock: Clock = attrs.Factory(Clock)
    ttl_ms: int = DEFAULT_TTL_MS
    quarantine_end: int = 0
    """Logical ms."""
    fence: int = 0
    counter: int = 0
    """Of delayed ids and of their order."""
    lanes: dict[str, Lane] = attrs.Factory(dict)
    members: dict[str, Member] = attrs.Factory(dict)
    pools: dict[str, Pool] = attrs.Factory(dict)
    limits: dict[str, int] = attrs.Factory(dict)
    """In force; absent = unlimited, 0 = paused."""
    override: dict[str, int] = attrs.Factory(dict)
    paused: set[str] = attrs.Factory(set)
    delayed: dict[str, Delayed] = attrs.Factory(dict)
    due: list[tuple[int, int, str]] = attrs.Factory(list)
    """Heap over ``delayed``; may hold ids that are gone."""
    moved: dict[str, tuple[str, str]] = attrs.Factory(dict)
    """Job id → lane and entry, of jobs whose entry is not the one in their id."""
    keys: dict[str, str] = attrs.Factory(dict)
    """``<lane>:<key>`` → job id."""
    once: OrderedDict[str, tuple[int, list[Receipt]]] = attrs.Factory(OrderedDict)
    cancels: dict[tuple[str, str], CancelRequest] = attrs.Factory(dict)
    records: dict[str, tuple[bytes, int]] = attrs.Factory(dict)
    """Job id → record, waiting-clock ms at which it expires."""
    expiries: list[tuple[int, str]] = attrs.Factory(list)
    """Heap over ``records``; may hold stale pairs."""
    dead: list[DeadLetter] = attrs.Factory(list)
    effects: Effects = attrs.Factory(Effects)

    @property
    def step_ms(self) -> int:
        """G: the most that one call moves the logical clock."""
        return max(1, self.ttl_ms // 6)

    @property
    def quarantine_ms(self) -> int:
        return max(0, self.quarantine_end - self.clock.lease)

    def lane(self, name: str) -> Lane:
        if name not in self.lanes:
            self.lanes[name] = Lane(name)
        return self.lanes[name]

    def live(self, owner: str) -> bool:
        member = self.members.get(owner)
        return member is not None and not member.expired

    def dead_entries(self, lane: Lane) -> int:
        """How many pending entries belong to nobody who is alive, those handed back among them."""
        return sum(count for owner, count in lane.owned.items() if not self.live(owner))

    def adoptable(self, lane: Lane) -> list[str]:
        """Those entries, oldest first."""
        if not self.dead_entries(lane):
            return []
        return sorted((e for e, p in lane.pending.items() if not self.live(p.owner)), key=entry_order)

    def startable(self, lane: Lane) -> bool:
        """There is work and, under a limit, capacity for it: somebody with room would get something."""
        dead = self.dead_entries(lane)
        limit = self.limits.get(lane.name)
        if limit is None:
            return bool(dead or lane.unread)
        if self.quarantine_ms:
            return False
        return bool((dead and lane.used - dead < limit) or (lane.unread and lane.used < limit))

    def serving(self, lane: str) -> Iterator[Pool]:
        """The pools with live members that serve this lane."""
        return (pool for pool in self.pools.values() if lane in pool.lanes)

    def ring(self, lane: str) -> None:
        """Ring for everybody who serves this lane, if there is something to start in it."""
        found = self.lanes.get(lane)
        if found is not None and self.startable(found):
            for pool in self.serving(lane):
                self.effects.pools[pool.name] = None

    def freed(self, lane: Lane) -> None:
        """Entries have left the flight: the ceiling comes down to the limit once they fit under it."""
        limit = self.limits.get(lane.name)
        if limit is not None and lane.used <= limit:
            lane.ceiling = limit

    def hand_back(self, lane: Lane, entry: str) -> None:
        """Give up a pending entry, uncounted: anybody may adopt it at once."""
        lane.hand(entry, HANDED_BACK)

    def postpone(self, job_id: str, lane: str, raw: bytes, delay_ms: int) -> None:
        self.counter += 1
        due = self.clock.waiting + delay_ms
        self.delayed[job_id] = Delayed(lane, raw, due, self.counter)
        heapq.heappush(self.due, (due, self.counter, job_id))

    def next_due(self) -> float | None:
        """Seconds until the earliest delayed job is due; None: there is none."""
        while self.due:
            due, order, job_id = self.due[0]
            job = self.delayed.get(job_id)
            if job is not None and job.order == order:
                return max(0, due - self.clock.waiting) / 1000
            heapq.heappop(self.due)
        return None

    def next_expiry(self) -> float | None:
        """Seconds of the logical clock until the earliest live member's lease ends."""
        ends = [m.expiry for m in self.members.values() if not m.expired]
        return max(0, min(ends) - self.clock.lease) / 1000 if ends else None


def entry_order(entry: str) -> tuple[int, int]:
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)


_identity = msgspec.json.Decoder(Identity)


def identity(raw: bytes) -> Identity:
    """The id and key in an envelope; empty ones if it cannot be read (the worker will say why it is bad)."""
    try:
        return _identity.decode(raw)
    except msgspec.MsgspecError:
        return Identity()


def job_id_of(lane: str, entry: str, raw: bytes) -> str:
    """The public id of the job in this entry."""
    return identity(raw).id or f"{lane}:{entry}"
