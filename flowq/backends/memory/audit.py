"""What must always hold, and what there is."""

from __future__ import annotations

import attrs

from flowq._model import HANDED_BACK
from flowq.backends.memory.rows import Lane, identity, job_id_of
from flowq.backends.memory.state import State


@attrs.frozen
class LaneCounts:
    """One lane at one moment."""

    ready: int
    pending: dict[str, int]
    """By owner; ``-`` is what was handed back."""
    delayed: int
    dead: int
    limit: int | None
    """In force; None: unlimited, 0: paused."""

    @property
    def outstanding(self) -> int:
        """Jobs that have not ended."""
        return self.ready + sum(self.pending.values()) + self.delayed


def snapshot(state: State) -> dict[str, LaneCounts]:
    """Counts per lane, of every lane that was ever heard of."""
    names = {*state.lanes, *(job.lane for job in state.delayed.values())}
    return {name: _counts(state, name) for name in sorted(names)}


def _counts(state: State, name: str) -> LaneCounts:
    lane = state.lanes.get(name) or Lane(name)
    return LaneCounts(
        ready=len(lane.unread),
        pending=dict(lane.owned),
        delayed=sum(job.lane == name for job in state.delayed.values()),
        dead=sum(letter.lane == name for letter in state.dead),
        limit=state.limits.get(name),
    )


def check(state: State) -> None:
    """Raise ``AssertionError`` naming the first invariant that does not hold."""
    fences: list[int] = []
    for lane in state.lanes.values():
        _check_lane(state, lane)
        fences += [p.fence for p in lane.pending.values()]
    assert len(fences) == len(set(fences)), "two deliveries bear one fence"
    assert max(fences, default=0) <= state.fence, "a delivery bears a fence above the highest that was minted"
    _check_jobs(state)
    for member in state.members.values():
        at_home = member.name in state.pools[member.pool].members if member.pool in state.pools else False
        assert at_home is not member.expired, (
            f"{member.name} is counted in its pool if and only if it is alive"
        )
    for name, entry in state.cancels:
        assert entry in state.lanes[name].pending, (
            f"a cancellation waits for {name}:{entry}, which is not in flight"
        )


def _check_lane(state: State, lane: Lane) -> None:
    counted: dict[str, int] = {}
    for entry, pending in lane.pending.items():
        counted[pending.owner] = counted.get(pending.owner, 0) + 1
        assert entry not in lane.unread, f"{lane.name}:{entry} is in flight and unread at once"
        assert pending.n >= 1, f"{lane.name}:{entry} is in flight but was never delivered"
        known = pending.owner == HANDED_BACK or pending.owner in state.members
        assert known, (
            f"{lane.name}:{entry} belongs to {pending.owner}, who is neither alive nor known to be dead"
        )
    assert counted == lane.owned, f"{lane.name}: owners counted {counted}, kept {lane.owned}"
    assert lane.ceiling is None or lane.used <= lane.ceiling, (
        f"{lane.name}: {lane.used} in flight, limit {lane.ceiling}"
    )
    assert lane.name not in state.limits or lane.ceiling is not None, (
        f"{lane.name}: a limit without a ceiling"
    )
    assert set(lane.crashes) <= set(lane.pending), (
        f"{lane.name}: crashes are counted of entries not in flight"
    )


def _check_jobs(state: State) -> None:
    outstanding = list(state.delayed)
    for lane in state.lanes.values():
        placed = [(e, raw) for e, raw in lane.unread.items()] + [(e, p.raw) for e, p in lane.pending.items()]
        for entry, raw in placed:
            job_id = job_id_of(lane.name, entry, raw)
            outstanding.append(job_id)
            if identity(raw).id:
                assert state.moved.get(job_id) == (lane.name, entry), f"{job_id} cannot be found under its id"
    jobs = set(outstanding)
    assert len(outstanding) == len(jobs), "a job lies in two places"
    assert set(state.moved) <= jobs, "a place is kept of a job that has ended"
    assert set(state.keys.values()) <= jobs, "a key is taken by a job that has ended"
    assert not jobs & set(state.records), "a job that has not ended has a record"
