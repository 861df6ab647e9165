"""Who may start what. Rules R6, R14 and R15 of docs/lease-model.md."""

from __future__ import annotations

import attrs
import msgspec

from flowq._core.prefetch import SPREAD
from flowq._model import HANDED_BACK, Claimed, Delivery, LanePolicy, Record, Status, Want
from flowq.backends.memory.fleet import standing
from flowq.backends.memory.jobs import cancelled_record, end_entry, scoped
from flowq.backends.memory.rows import DeadLetter, Lane, Member, Pool, identity, job_id_of
from flowq.backends.memory.state import State
from flowq.backends.memory.submit import promote
from flowq.backends.protocol import Standing

HUNGRY_MS = 1_500
"""How long a claim that came up short caps others (logical): a dead or stalled member cannot cap them longer."""


@attrs.define(eq=False)
class Turn:
    """One claim under way: what the caller can still start, and what it got."""

    state: State
    me: Standing
    member: Member
    pool: Pool
    room: int
    threads: int
    extra: dict[str, int]
    grants: list[Delivery] = attrs.Factory(list[Delivery])
    limits: dict[str, int] = attrs.Factory(dict[str, int])
    capped: list[Lane] = attrs.Factory(list[Lane])
    short: list[tuple[Lane, bool]] = attrs.Factory(list[tuple[Lane, bool]])
    """Lanes that this claim did not empty, and whether the caller could have started more of them."""
    ended: int = 0
    withheld: bool = False
    shares: float = SPREAD
    """Beyond room, that may still be given out."""
    left: dict[str, int] = attrs.Factory(dict[str, int])
    """Beyond room, of the lanes that were looked at."""

    def space(self, lane: Lane) -> int:
        """How many more of this lane the caller can start."""
        space = self.room
        if lane.name not in self.state.limits:
            space += self.beyond(lane.name)
        return max(0, min(space, self.threads) if self.policy(lane).sync else space)

    def beyond(self, name: str) -> int:
        """How many more of a lane may be taken beyond room: of its share, as much as is left to give out when it is first looked at."""
        if name not in self.left:
            self.left[name] = int(self.extra.get(name, 0) * min(1.0, self.shares))
        return self.left[name]

    def policy(self, lane: Lane) -> LanePolicy:
        return self.pool.lanes[lane.name]

    def grant(self, lane: Lane, entry: str) -> None:
        """Write down a grant that the lane shows already, and take it from the caller's room."""
        pending = lane.pending[entry]
        crashes = lane.crashes.get(entry, 0)
        self.grants.append(
            Delivery(lane.name, entry, pending.n, self.state.epoch, pending.fence, crashes, pending.raw)
        )
        if self.room > 0:
            self.room -= 1
        else:
            self.left[lane.name] -= 1
            self.shares -= 1 / self.extra[lane.name]
        if self.policy(lane).sync:
            self.threads -= 1
        limit = self.state.limits.get(lane.name)
        if limit is not None:
            self.limits[lane.name] = limit
        self.pool.turn = lane.name

    def mint(self) -> int:
        """A fence above all before it: the stored one, the caller's highest, and the time in microseconds."""
        self.state.fence = max(self.state.fence, self.me.fence, self.state.clock.now * 1000) + 1
        return self.state.fence


def claim(state: State, me: Standing, want: Want, settled: set[str]) -> Claimed:
    """Grant what the caller can start: first what the dead left, then what is new.

    ``settled`` are the lanes that the same call has just settled in. Their bell has not been rung yet: this claim may take
    what they freed, and rings for what it leaves.
    """
    status = standing(state, me)
    if status is not Status.OK:
        for name in settled:
            state.ring(name)
        return Claimed(status, state.epoch)
    promote(state)
    member = state.members[me.member]
    pool = state.pools[member.pool]
    turn = Turn(state, me, member, pool, want.room, want.threads, dict(want.extra))
    if turn.room > 0 or turn.extra:
        for name in _rotated(pool):
            lane = state.lanes.get(name)
            if lane is not None and (lane.unread or state.dead_entries(lane)):
                _visit(turn, lane)
    for lane, wanted in turn.short:
        _note_hunger(turn, lane, wanted)
    _ring(turn, want, settled)
    return Claimed(
        Status.OK,
        state.epoch,
        turn.grants,
        turn.limits,
        state.next_due(),
        state.next_expiry(but=me.member),
        state.quarantine_ms / 1000,
        turn.ended,
        turn.withheld,
    )


def _rotated(pool: Pool) -> list[str]:
    """The pool's lanes, beginning behind the one that was granted last: none of them starves."""
    names = list(pool.lanes)
    return [n for n in names if n > pool.turn] + [n for n in names if n <= pool.turn]


def _visit(turn: Turn, lane: Lane) -> None:
    lane.nudged.discard(turn.member.name)
    limit = turn.state.limits.get(lane.name)
    if limit is None or not turn.state.quarantine_ms:
        _adopt(turn, lane, limit)
        _read(turn, lane, limit)


def _adopt(turn: Turn, lane: Lane, limit: int | None) -> None:
    """Take over entries of the dead, oldest first; those that are over, cancelled or crashed too often, end here.

    Bounded by what the living *hold*, not by what is used: an entry brings its token along.
    """
    state, name = turn.state, turn.member.name
    orphans = state.adoptable(lane)
    can = turn.space(lane)
    if limit is not None:
        can = min(can, limit - (lane.used - len(orphans)))
    for entry in orphans if can > 0 else ():
        if _cancelled(turn, lane, entry) or _crashed_out(turn, lane, entry) or can == 0:
            continue
        crashes = _crashes(lane, entry)
        if _is_suspect(turn.policy(lane), crashes) and _holds_suspect(turn):
            continue
        if crashes:
            lane.crashes[entry] = crashes
        pending = lane.hand(entry, name)
        pending.n += 1
        pending.fence = turn.mint()
        turn.grant(lane, entry)
        can -= 1


def _read(turn: Turn, lane: Lane, limit: int | None) -> None:
    """Take new entries, oldest first: what there is room and limit for, with others about only a fair part of it."""
    state, name = turn.state, turn.member.name
    space = turn.space(lane)
    most = take = space if limit is None else min(space, limit - lane.used)
    others = len(state.live_members()) > 1
    if others and most > 0:
        if limit is not None:
            lane.hungry.pop(name, None)
        take = min(most, _share(turn, lane, limit))
        turn.withheld |= take == 0
    count = max(0, min(take, len(lane.unread)))
    for _ in range(count):
        entry, _pending = lane.read(name, turn.mint())
        turn.grant(lane, entry)
    if others and not 0 <= count < take:
        turn.short.append((lane, take < most or take < space))


def _crashes(lane: Lane, entry: str) -> int:
    """How often this entry, which is adoptable, has taken a worker down: the death of its present owner counts."""
    return lane.crashes.get(entry, 0) + (lane.pending[entry].owner != HANDED_BACK)


def _cancelled(turn: Turn, lane: Lane, entry: str) -> bool:
    """Whoever ran it is gone, and somebody wanted it gone, too: it ends here."""
    state = turn.state
    reason = state.cancels.get((lane.name, entry))
    if reason is None:
        return False
    raw = lane.pending[entry].raw
    key = scoped(lane.name, identity(raw).key)
    job_id = job_id_of(lane.name, entry, raw)
    record, ttl_ms = cancelled_record(reason), turn.policy(lane).failure_ttl_ms
    end_entry(state, lane, entry, job_id=job_id, key=key, record=record, ttl_ms=ttl_ms)
    turn.ended += 1
    return True


def _crashed_out(turn: Turn, lane: Lane, entry: str) -> bool:
    """Its worker died, once too often: a dead letter, with a record for whoever waits."""
    state, policy = turn.state, turn.policy(lane)
    crashes = _crashes(lane, entry)
    handed_back = lane.pending[entry].owner == HANDED_BACK
    if policy.max_crashes is None or handed_back or crashes < policy.max_crashes:
        return False
    raw = lane.pending[entry].raw
    job_id, key = job_id_of(lane.name, entry, raw), scoped(lane.name, identity(raw).key)
    message = f"its worker died {crashes} times"
    record = Record(status="dead", kind="crashed", message=message)
    state.dead.append(
        DeadLetter(job_id, lane.name, entry, raw, "crashed", message, b"{}", at_ms=state.clock.now)
    )
    body = msgspec.json.encode(record)
    end_entry(state, lane, entry, job_id=job_id, key=key, record=body, ttl_ms=policy.failure_ttl_ms)
    turn.ended += 1
    return True


def _is_suspect(policy: LanePolicy, crashes: int) -> bool:
    """One more crash and it is dead."""
    return policy.max_crashes is not None and 0 < crashes == policy.max_crashes - 1


def _holds_suspect(turn: Turn) -> bool:
    """A suspect runs with no other suspect beside it, so that one poison job condemns no innocent one."""
    for name, policy in turn.pool.lanes.items():
        lane = turn.state.lanes.get(name)
        if lane is None or turn.member.name not in lane.owned:
            continue
        for entry, crashes in lane.crashes.items():
            if lane.pending[entry].owner == turn.member.name and _is_suspect(policy, crashes):
                return True
    return False


def _hungry_others(turn: Turn, lane: Lane) -> set[str]:
    now = turn.state.clock.lease
    return {m for m, at in lane.hungry.items() if m != turn.member.name and now - HUNGRY_MS <= at <= now}


def _share(turn: Turn, lane: Lane, limit: int | None) -> int:
    """How many new entries the caller may take beside the others who want some (docs/adr/0008).

    Of an unlimited lane its part of the backlog. Of a limited one all, unless others are hungry for it: then it may hold its part
    of what those hold who contend.
    """
    if limit is None:
        serving = sum(len(pool.members) for pool in turn.state.serving(lane.name))
        return max(1, -(-len(lane.unread) // serving))
    contend = {turn.member.name, *_hungry_others(turn, lane)}
    if len(contend) == 1:
        return limit
    rest = sum(count for owner, count in lane.owned.items() if owner not in contend)
    return max(0, -(-(limit - rest) // len(contend)) - lane.owned.get(turn.member.name, 0))


def _note_hunger(turn: Turn, lane: Lane, wanted: bool) -> None:
    """Came up short with room left, because of the limit or of the caller's share: others shall leave something.

    A mark of a member that left or died is not taken away: it counts for as long as any other.
    """
    limit = turn.state.limits.get(lane.name)
    if limit is None:
        return
    if not (limit and lane.unread and wanted and turn.room > 0):
        lane.hungry.pop(turn.member.name, None)
        return
    now = turn.state.clock.lease
    lane.hungry = {m: at for m, at in lane.hungry.items() if now - HUNGRY_MS <= at <= now}
    lane.hungry[turn.member.name] = now
    if lane.used < limit:
        turn.capped.append(lane)


def _ring(turn: Turn, want: Want, settled: set[str]) -> None:
    """Ring for what this claim left, and pass on a ring that was meant for somebody else.

    A claim that took nothing of what it could have had rings once per hungry member: more would only wake itself.
    """
    state = turn.state
    for name in settled | {grant.lane for grant in turn.grants}:
        state.ring(name)
    if not want.ring:
        return
    for lane in turn.capped:
        others = _hungry_others(turn, lane)
        if others - lane.nudged:
            lane.nudged |= others
            state.ring(lane.name)
    if want.room == 0 and any(state.startable(state.lanes[n]) for n in turn.pool.lanes if n in state.lanes):
        state.effects.pools[turn.pool.name] = None
