"""The facts, and the questions that can be answered from them alone."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from flowq._model import HANDED_BACK, Receipt
from flowq.backends.entries import entry_order
from flowq.backends.memory.clock import Clock
from flowq.backends.memory.rows import DeadLetter, Delayed, Effects, Lane, Member, Pool

DEFAULT_TTL_MS = 10_000


@attrs.define(eq=False)
class State:
    """Everything that a server would lose with its memory. Plain data: a deep copy of it is a replica."""

    epoch: str
    clock: Clock = attrs.Factory(Clock)
    ttl_ms: int = DEFAULT_TTL_MS
    """Of expiry, quarantine and clock; while it is being changed the larger one."""
    founded: bool = False
    """Somebody has joined, so ``ttl_ms`` is known."""
    change: str = ""
    """Of the TTL, under way: ``<from ms> <to ms> <nonce>``."""
    change_open: bool = False
    """Every live member heeds it."""
    change_due: int = 0
    """Logical ms before which it is not complete."""
    epoch_began: int | None = None
    """Logical ms; None: the server was new and ours."""
    quarantine_end: int = 0
    """Logical ms."""
    fence: int = 0
    counter: int = 0
    """Of delayed ids and of their order."""
    lanes: dict[str, Lane] = attrs.Factory(dict[str, Lane])
    members: dict[str, Member] = attrs.Factory(dict[str, Member])
    pools: dict[str, Pool] = attrs.Factory(dict[str, Pool])
    limits: dict[str, int] = attrs.Factory(dict[str, int])
    """In force; absent = unlimited, 0 = paused."""
    override: dict[str, int] = attrs.Factory(dict[str, int])
    paused: set[str] = attrs.Factory(set[str])
    delayed: dict[str, Delayed] = attrs.Factory(dict[str, Delayed])
    due: list[tuple[int, int, str]] = attrs.Factory(list[tuple[int, int, str]])
    """Heap over ``delayed``; may hold ids that are gone."""
    moved: dict[str, tuple[str, str]] = attrs.Factory(dict[str, tuple[str, str]])
    """Job id → lane and entry, of jobs whose entry is not the one in their id."""
    keys: dict[str, str] = attrs.Factory(dict[str, str])
    """``<lane>:<key>`` → job id."""
    once: OrderedDict[str, tuple[int, list[Receipt]]] = attrs.Factory(
        OrderedDict[str, tuple[int, list[Receipt]]]
    )
    cancels: dict[tuple[str, str], str] = attrs.Factory(dict[tuple[str, str], str])
    """Lane and entry in flight → why somebody wants it cancelled."""
    records: dict[str, tuple[bytes, int]] = attrs.Factory(dict[str, tuple[bytes, int]])
    """Job id → record, waiting-clock ms at which it expires."""
    expiries: list[tuple[int, str]] = attrs.Factory(list[tuple[int, str]])
    """Heap over ``records``; may hold stale pairs."""
    dead: list[DeadLetter] = attrs.Factory(list[DeadLetter])
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

    def live_members(self) -> list[Member]:
        return [member for member in self.members.values() if not member.expired]

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
            self.rouse(lane)

    def rouse(self, lane: str) -> None:
        """Ring for everybody who serves this lane, come what may."""
        for pool in self.serving(lane):
            self.effects.pools[pool.name] = None

    def cap(self, lane: Lane) -> None:
        """Entries left the flight, or the limit changed: from now on no more may fly than the limit, or those that do."""
        limit = self.limits.get(lane.name)
        lane.ceiling = None if limit is None else max(limit, lane.used)

    def hand_back(self, lane: Lane, entry: str) -> None:
        """Give up a pending entry, uncounted: anybody may adopt it at once."""
        lane.hand(entry, HANDED_BACK)

    def postpone(self, job_id: str, lane: str, raw: bytes, delay_ms: int) -> None:
        """Keep a job until it is due. If no other is due sooner, ring: somebody may be asleep until a later one."""
        first = self.next_due()
        if first is None or delay_ms < first * 1000:
            self.rouse(lane)
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

    def next_expiry(self, *, but: str) -> float | None:
        """Seconds of the logical clock until the first lease ends of the live members other than ``but``."""
        ends = [member.expiry for member in self.live_members() if member.name != but]
        return max(0, min(ends) - self.clock.lease) / 1000 if ends else None
