"""Who may start what. Rule 6, with hungry members (CORRECTIONS 1.1), suspects (2.2) and shares."""

from __future__ import annotations

import attrs
import msgspec

from flowq._model import HANDED_BACK, Claimed, Delivery, LanePolicy, Record, Status, Want
from flowq.backends.memory.fleet import standing
from flowq.backends.memory.jobs import end_entry, scoped
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
    dead: int = 0

    def space(self, lane: Lane) -> int:
        """How many more of this lane the caller can start."""
        space = self.room
        if lane.name not in self.state.limits:
            space += self.extra.get(lane.name, 0)
        return max(0, min(space, self.threads) if self.policy(lane).sync else space)

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
            self.extra[lane.name] -= 1
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
    for name in _rotated(pool):
        lane = state.lanes.get(name)
        if lane is not None:
            _visit(turn, lane)
    _ring(turn, want, settled)
    return Claimed(
        Status.OK,
        state.epoch,
        turn.grants,
        turn.limits,
        state.next_due(),
        state.next_expiry(but=me.member),
        state.quarantine_ms / 1000,
        turn.dead,
    )


def _rotated(pool: Pool) -> list[str]:
    """The pool's lanes, beginning behind the one that was granted last: none of them starves."""
    names = list(pool.lanes)
    return [n for n in names if n > pool.turn] + [n for n in names if n <= pool.turn]


def _visit(turn: Turn, lane: Lane) -> None:
    lane.hungry.pop(turn.member.name, None)
    lane.nudged.discard(turn.member.name)
    limit = turn.state.limits.get(lane.name)
    if limit is None:
        _adopt(turn, lane, None)
        serving = _serving(turn.state, lane)
        _read(turn, lane, max(1, -(-len(lane.unread) // serving)))
    elif not turn.state.quarantine_ms:
        _adopt(turn, lane, limit)
        left = _share(turn, lane, limit) - lane.owned.get(turn.member.name, 0)
        _read(turn, lane, min(limit - lane.used, left))
        _note_hunger(turn, lane, limit)


def _adopt(turn: Turn, lane: Lane, limit: int | None) -> None:
    """Take over entries of the dead, oldest first.

    Bounded by what the living *hold*, not by what is used: an entry brings its token along.
    """
    state, name = turn.state, turn.member.name
    for entry in state.adoptable(lane):
        if not turn.space(lane):
            return
        if limit is not None and lane.used - state.dead_entries(lane) >= limit:
            return
        if _cancelled(state, lane, entry) or _crashed_out(turn, lane, entry):
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


def _read(turn: Turn, lane: Lane, most: int) -> None:
    """Take new entries, oldest first, at most ``most`` of them."""
    for _ in range(min(most, len(lane.unread))):
        if not turn.space(lane):
            return
        entry, _pending = lane.read(turn.member.name, turn.mint())
        turn.grant(lane, entry)


def _crashes(lane: Lane, entry: str) -> int:
    """How often this entry, which is adoptable, has taken a worker down: the death of its present owner counts."""
    return lane.crashes.get(entry, 0) + (lane.pending[entry].owner != HANDED_BACK)


def _cancelled(state: State, lane: Lane, entry: str) -> bool:
    """Whoever ran it is gone, and somebody wanted it gone, too: it ends here."""
    request = state.cancels.get((lane.name, entry))
    if request is None:
        return False
    raw = lane.pending[entry].raw
    key = scoped(lane.name, identity(raw).key)
    job_id = job_id_of(lane.name, entry, raw)
    end_entry(state, lane, entry, job_id=job_id, key=key, record=request.record, ttl_ms=request.ttl_ms)
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
    message = f"it took its worker down {crashes} times"
    record = Record(status="dead", kind="crashed", message=message)
    state.dead.append(
        DeadLetter(job_id, lane.name, entry, raw, "crashed", message, b"{}", at_ms=state.clock.now)
    )
    body = msgspec.json.encode(record)
    end_entry(state, lane, entry, job_id=job_id, key=key, record=body, ttl_ms=policy.failure_ttl_ms)
    turn.dead += 1
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


def _serving(state: State, lane: Lane) -> int:
    return sum(len(pool.members) for pool in state.serving(lane.name))


def _hungry_others(turn: Turn, lane: Lane) -> set[str]:
    now = turn.state.clock.lease
    return {m for m, since in lane.hungry.items() if m != turn.member.name and now - since < HUNGRY_MS}


def _share(turn: Turn, lane: Lane, limit: int) -> int:
    """How many entries of the lane the caller may hold: all, unless somebody else is hungry for them."""
    if not _hungry_others(turn, lane):
        return limit
    return -(-limit // _serving(turn.state, lane))


def _note_hunger(turn: Turn, lane: Lane, limit: int) -> None:
    """Came up short with room left, because of the limit or of the caller's share: others shall leave something."""
    if not limit or not lane.unread or not turn.space(lane):
        return
    lane.hungry[turn.member.name] = turn.state.clock.lease
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
