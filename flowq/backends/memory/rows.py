"""What the facts are made of: lanes and their entries, members and their pools, jobs that are due later or over."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import msgspec

from flowq._model import LanePolicy
from flowq.backends.protocol import MemberFacts


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
    unread: OrderedDict[str, bytes] = attrs.Factory(OrderedDict[str, bytes])
    pending: dict[str, Pending] = attrs.Factory(dict[str, Pending])
    owned: dict[str, int] = attrs.Factory(dict[str, int])
    """owner → how many pending entries; no zeros."""
    crashes: dict[str, int] = attrs.Factory(dict[str, int])
    hungry: dict[str, int] = attrs.Factory(dict[str, int])
    """member → logical ms of the claim that came up short although the lane had work."""
    nudged: set[str] = attrs.Factory(set[str])
    """Hungry members for whom a capped one has passed on a ring already: once is enough."""
    last: tuple[int, int] = (0, 0)
    ceiling: int | None = None
    """The most that may be in flight: the limit, or what was in flight when it came down. Only ``audit`` reads it."""

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
    ttl_ms: int
    """What its worker was started with."""
    heard: str = ""
    """The change of the lease TTL that it heeds."""
    session: int = 0
    expired: bool = False
    """It stays as long as it owns something, so that its entries are known for a dead member's."""
    running: int = 0


@attrs.define(eq=False)
class Pool:
    """The live members that serve the same lanes by the same policies; they share a doorbell."""

    name: str
    lanes: dict[str, LanePolicy]
    members: set[str] = attrs.Factory(set[str])
    turn: str = ""
    """The lane that was granted last: the next claim begins behind it."""


@attrs.define(eq=False)
class Delayed:
    lane: str
    raw: bytes
    due: int
    """Waiting-clock ms."""
    order: int


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

    pools: dict[str, None] = attrs.Factory(dict[str, None])
    jobs: set[str] = attrs.Factory(set[str])
    control: bool = False


class Identity(msgspec.Struct):
    """What the server itself reads of an envelope."""

    id: str = ""
    key: str = ""


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
