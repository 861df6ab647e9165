"""Who is alive, and how much may run at once. Rules R1 to R5 and R9 to R11 of docs/lease-model.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flowq._fleet import LaneSurvey, Survey
from flowq._model import Confirmed, Delivery, Joined, LanePolicy, Renewed, Settled, Status
from flowq.backends.memory.lease_ttl import Said, admit, advance
from flowq.backends.memory.rows import Lane, Member, Pool
from flowq.backends.memory.state import State
from flowq.backends.protocol import MemberFacts, Standing


def standing(state: State, me: Standing) -> Status:
    """May this caller take part? In this order: is it alive, does it know the epoch, is it the newest session."""
    member = state.members.get(me.member)
    if member is None or member.expired:
        return Status.LOST
    if me.epoch != state.epoch:
        return Status.EPOCH
    if me.session < member.session:
        return Status.STALE
    return Status.OK


def sweep(state: State) -> None:
    """Notice the leases that have ended. Frees no slot: it only makes entries adoptable.

    An expired member is kept as long as it owns something. Every call does this first.
    """
    for member in sorted(state.members.values(), key=lambda member: member.expiry):
        if not member.expired and member.expiry <= state.clock.lease:
            member.expired = True
            _leave_pool(state, member)
            for lane in state.lanes.values():
                if member.name in lane.owned:
                    state.ring(lane.name)
        if member.expired and not any(member.name in lane.owned for lane in state.lanes.values()):
            del state.members[member.name]


def join(
    state: State,
    name: str,
    facts: MemberFacts,
    lanes: Mapping[str, LanePolicy],
    said: Said,
    *,
    old: str | None,
    keep: Sequence[Delivery],
) -> Joined:
    """Become a member under the fresh id ``name``; what ``old`` owned is kept by this member, or handed back uncounted."""
    admit(state, said, old, nonce=name)
    pool = _pool(state, lanes)
    pool.members.add(name)
    state.members[name] = Member(
        name, pool.name, state.clock.lease + state.ttl_ms, facts, said.ttl_ms, state.change
    )
    refresh(state, pool.lanes)
    kept = _take_over(state, name, old, keep) if old is not None else []
    return Joined(name, state.epoch, kept, state.quarantine_ms / 1000, state.change)


def _take_over(state: State, name: str, old: str, keep: Sequence[Delivery]) -> list[int]:
    """Move the kept deliveries to the new member as they are, and retire the old one."""
    kept: list[int] = []
    for delivery in keep:
        lane = state.lanes.get(delivery.lane)
        if lane is None or not owns(lane, delivery, old):
            continue
        lane.hand(
            delivery.entry, name
        )  # as XCLAIM JUSTID: n stays, so the settle that is on its way still fits
        kept.append(delivery.fence)
    retire(state, old)
    return kept


def owns(lane: Lane, delivery: Delivery, member: str) -> bool:
    """The one fence: this very delivery is still this member's."""
    pending = lane.pending.get(delivery.entry)
    return pending is not None and pending.owner == member and pending.n == delivery.n


def renew(state: State, me: Standing, running: int, heard: str) -> Renewed:
    """Extend the lease of a live member, never revive one that is not. In another epoch it is told so, and trusts nothing yet."""
    status = standing(state, me)
    if status is Status.LOST:
        return Renewed(status, [])
    member = state.members[me.member]
    member.expiry = state.clock.lease + state.ttl_ms
    member.running = running
    member.heard = heard
    advance(state)
    state.fence = max(state.fence, me.fence)
    # the keeper's thread may still know the session before
    status = Status.EPOCH if status is Status.EPOCH else Status.OK
    return Renewed(status, cancels(state), state.change)


def confirm(state: State, me: Standing, known: Sequence[Delivery]) -> Confirmed:
    """Say which of these the server still shows as this member's, and extend its lease. Adds and moves nothing."""
    member = state.members.get(me.member)
    if member is None or member.expired:
        return Confirmed(Status.LOST, state.epoch, [])
    member.expiry = state.clock.lease + state.ttl_ms
    state.fence = max(state.fence, me.fence)
    fences = [d.fence for d in known if d.lane in state.lanes and owns(state.lanes[d.lane], d, me.member)]
    return Confirmed(Status.OK, state.epoch, fences)


def mine(state: State, me: Standing, known: Sequence[Delivery]) -> Settled:
    """Begin a session: hand back what is pending for this member and not known to it. Starts nothing."""
    member = state.members.get(me.member)
    if member is None or member.expired:
        return Settled(Status.LOST)
    if me.session < member.session:
        return Settled(Status.STALE)
    member.session = me.session
    kept = {(d.lane, d.entry, d.n) for d in known}
    _hand_back(state, me.member, kept)
    return Settled(Status.OK)


def leave(state: State, me: Standing) -> None:
    """End the membership. Harmless if it has ended already.

    Rings for all that its pool could start: it may have swallowed a ring on its way out.
    """
    member = state.members.get(me.member)
    pool = state.pools.get(member.pool) if member is not None else None
    retire(state, me.member)
    for lane in pool.lanes if pool is not None else ():
        state.ring(lane)


def retire(state: State, name: str) -> None:
    """Take a member out, alive or not; what it owns is handed back uncounted."""
    member = state.members.pop(name, None)
    if member is not None:
        if not member.expired:
            _leave_pool(state, member)
        _hand_back(state, name, set())


def _hand_back(state: State, owner: str, kept: set[tuple[str, str, int]]) -> None:
    for lane in state.lanes.values():
        if owner not in lane.owned:
            continue
        for entry, pending in lane.pending.items():
            if pending.owner == owner and (lane.name, entry, pending.n) not in kept:
                state.hand_back(lane, entry)
        state.ring(lane.name)


def _pool(state: State, lanes: Mapping[str, LanePolicy]) -> Pool:
    """Members that say the same of the same lanes share a pool, whatever order they say it in."""
    ordered = sorted(lanes.items())
    name = hashlib.blake2b(msgspec.json.encode(ordered), digest_size=6).hexdigest()
    return state.pools.setdefault(name, Pool(name, dict(ordered)))


def _leave_pool(state: State, member: Member) -> None:
    pool = state.pools[member.pool]
    pool.members.discard(member.name)
    if not pool.members:
        del state.pools[pool.name]
    for name in pool.lanes:
        lane = state.lanes.get(name)
        if lane is not None:
            lane.nudged.discard(member.name)
    refresh(state, pool.lanes)


def declared_limit(state: State, lane: str) -> int | None:
    """The limit of a lane that is not paused: the override, else the least that live members declare."""
    if lane in state.override:
        return state.override[lane]
    declared = [pool.lanes[lane].limit for pool in state.serving(lane)]
    return min((limit for limit in declared if limit is not None), default=None)


def refresh(state: State, lanes: Iterable[str]) -> None:
    """Work out the limits in force anew; ring where more may start than before.

    A lane that nobody serves keeps its last limit: nothing can start there.
    """
    for name in lanes:
        before = state.limits.get(name)
        if name not in state.paused and name not in state.override and not any(state.serving(name)):
            continue
        after = 0 if name in state.paused else declared_limit(state, name)
        if after == before:
            continue
        if after is None:
            del state.limits[name]
        else:
            state.limits[name] = after
        lane = state.lane(name)
        state.cap(lane)
        if before is not None and (after is None or after > before):
            state.ring(name)


def set_limit(state: State, lane: str, limit: int | None) -> None:
    """Override what is declared, or (None) stop overriding it. Tokens are not touched."""
    if limit is None:
        state.override.pop(lane, None)
        _drop_unserved(state, lane)
    else:
        state.override[lane] = limit
    refresh(state, [lane])
    state.effects.control = True


def pause(state: State, lane: str, paused: bool) -> None:
    """Start nothing of this lane, or go on. Its limit is not forgotten."""
    if paused:
        state.paused.add(lane)
    else:
        state.paused.discard(lane)
        _drop_unserved(state, lane)
    refresh(state, [lane])
    state.effects.control = True


def _drop_unserved(state: State, lane: str) -> None:
    """An operator's word is taken back, and nobody who serves the lane declares a limit in its place."""
    if not any(state.serving(lane)):
        state.limits.pop(lane, None)
        state.cap(state.lane(lane))


def cancels(state: State) -> list[tuple[str, str, str]]:
    """(lane, entry, reason) of the cancellations that wait for a running body's end."""
    return [(lane, entry, reason) for (lane, entry), reason in state.cancels.items()]


def survey(state: State, me: Standing, time: float | None) -> Survey:
    """A look at the whole. It speaks for the fleet who is the first of the live members by name."""
    speaks = min((member.name for member in state.live_members()), default="") == me.member
    lanes = {*state.lanes, *(lane for pool in state.pools.values() for lane in pool.lanes)}
    return Survey(
        speaks=speaks,
        time=time,
        memory=None,
        letters=len(state.dead),
        limits=dict(state.limits),
        override=dict(state.override),
        paused=frozenset(state.paused),
        lanes=tuple(_look_at(state, name) for name in sorted(lanes)) if speaks else (),
    )


def _look_at(state: State, name: str) -> LaneSurvey:
    lane = state.lanes.get(name) or Lane(name)
    pools = list(state.serving(name))
    entries = [*lane.unread, *lane.pending]
    first = min((int(entry.partition("-")[0]) for entry in entries), default=None)
    return LaneSurvey(
        lane=name,
        served=bool(pools),
        waiting=len(entries),
        oldest=None if first is None or pools else max(0, state.clock.now - first) / 1000,
        declared=(pool.lanes[name].limit for pool in pools),
    )


def forget(state: State, epoch: str) -> None:
    """The server cannot know what ran: a new epoch, and for one TTL limited lanes start nothing. Rule 1."""
    state.epoch = epoch
    state.epoch_began = state.clock.lease
    state.quarantine_end = state.clock.lease + state.ttl_ms
