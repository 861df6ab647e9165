"""How Hypothesis draws a plan: much work, a few faults, and time enough between them for a lease to end."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .plan import (
    CallFault,
    Cancel,
    Crash,
    Cut,
    Drain,
    Freeze,
    Hang,
    Limit,
    Op,
    Plan,
    Server,
    Stall,
    Start,
    Submit,
)
from .run import CLIENT

PAUSES = st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.3, 1.0, 1.0, 2.5, 5.0, 9.0])
SLOT = st.integers(0, 2)
SHORT = st.sampled_from([0.2, 1.0, 3.0])
LONG = st.sampled_from([5.0, 8.0, 12.0, 20.0])
SPANS = st.one_of(SHORT, LONG, LONG)
CALLS = {
    "exchange": 40,
    "renew": 12,
    "confirm": 4,
    "mine": 4,
    "join": 2,
    "wait_ring": 10,
    "promote": 4,
    "leave": 1,
    "cancels": 2,
}
"""Calls of a worker, and how many of each a life has about."""


def _submit(jobs: int = 5) -> st.SearchStrategy[Submit]:
    return st.builds(
        Submit,
        after=PAUSES,
        lane=st.sampled_from(["pair", "pair", "one", "free", "free", "brief", "sync"]),
        jobs=st.integers(1, jobs),
        seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0, 4.0, 12.0]),
        how=st.sampled_from(["ok", "ok", "ok", "busy", "fail", "slow", "child", "stubborn", "reject"]),
        delay=st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.5, 4.0]),
    )


def _server() -> st.SearchStrategy[Server]:
    plain = st.builds(Server, after=PAUSES, what=st.sampled_from(["forget", "backup", "restore", "flush"]))
    clock = st.builds(Server, after=PAUSES, what=st.just("clock"), hours=st.sampled_from([-1.0, 0.001, 1.0]))
    return st.one_of(plain, plain, clock)


def _long_work() -> st.SearchStrategy[Submit]:
    """Bodies that still run when the next fault strikes."""
    return st.builds(
        Submit,
        after=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
        lane=st.sampled_from(["free", "free", "free", "pair", "one"]),
        jobs=st.integers(2, 6),
        seconds=st.sampled_from([2.0, 4.0, 8.0, 8.0]),
        how=st.sampled_from(["ok", "ok", "busy", "slow", "stubborn", "fail"]),
    )


BLOWS: st.SearchStrategy[Op] = st.one_of(
    st.builds(Crash, after=PAUSES, slot=SLOT, steps=st.sampled_from([0, 1, 3, 10, 40]) | st.integers(0, 150)),
    st.builds(Freeze, after=PAUSES, slot=SLOT, seconds=SPANS),
    st.builds(Freeze, after=PAUSES, slot=SLOT, seconds=LONG),
    st.builds(Stall, after=PAUSES, slot=SLOT, seconds=SPANS),
    st.builds(Cut, after=PAUSES, slot=st.integers(-1, 2), seconds=st.one_of(st.just(0.0), SPANS)),
    st.builds(Cut, after=PAUSES, slot=SLOT, seconds=LONG),
    st.builds(Hang, after=PAUSES, slot=SLOT, seconds=SPANS),
    st.builds(Drain, after=PAUSES, slot=SLOT, grace=st.sampled_from([0.0, 0.5, 5.0])),
    _server(),
)
QUIET_OPS: st.SearchStrategy[Op] = st.one_of(
    _submit(),
    _submit(),
    st.builds(Start, after=PAUSES, slot=SLOT),
    st.builds(
        Limit, after=PAUSES, lane=st.sampled_from(["pair", "one"]), limit=st.sampled_from([0, 1, 3, None])
    ),
    st.builds(Cancel, after=PAUSES, job=st.integers(0, 20)),
)
AWAY: st.SearchStrategy[tuple[Op, ...]] = st.tuples(
    st.builds(
        Submit,
        after=PAUSES,
        lane=st.just("free"),
        jobs=st.integers(2, 6),
        seconds=st.sampled_from([8.0, 9.0]),
    ),
    st.builds(Start, after=st.just(0.0), slot=SLOT),
    st.builds(Cut, after=st.sampled_from([0.3, 1.0, 2.5]), slot=SLOT, seconds=st.sampled_from([12.0, 14.0])),
)
"""A worker is away until others have taken its jobs over, and comes back with their outcomes."""
GROUPS: st.SearchStrategy[tuple[Op, ...]] = st.one_of(
    st.tuples(_long_work(), BLOWS),
    st.tuples(BLOWS),
    AWAY,
    st.tuples(_long_work(), BLOWS, st.builds(Start, after=PAUSES, slot=SLOT)),
    st.tuples(QUIET_OPS),
    st.tuples(QUIET_OPS, QUIET_OPS),
)


def _call_fault(draw: Any) -> CallFault:
    slot = draw(st.sampled_from([0, 0, 1, 1, 2, CLIENT]))
    call = "submit" if slot == CLIENT else draw(st.sampled_from(sorted(CALLS)))
    number = draw(st.integers(1, 8 if slot == CLIENT else CALLS[call]))
    kind = draw(
        st.sampled_from(["drop_request", "drop_reply", "drop_reply", "late", "delay", "outage", "standstill"])
    )
    return CallFault(slot, call, number, kind, draw(st.sampled_from([0.0, 0.1, 1.0, 4.0])))


@st.composite
def plans(draw: Any) -> Plan:
    """A plan that begins with work for two or three workers."""
    first = [draw(_submit(8)), draw(_submit(8))]
    ops = first + [op for group in draw(st.lists(GROUPS, min_size=4, max_size=9)) for op in group]
    if draw(st.sampled_from([True, False, False, False])):
        ops.insert(draw(st.integers(1, len(ops))), Server(draw(PAUSES), "backup"))
        ops.insert(draw(st.integers(2, len(ops))), Server(draw(PAUSES), "restore"))
    clocks = [op for op in ops if isinstance(op, Server) and op.what == "clock"]
    if len(clocks) > 1:  # the lease bears one leap of the server's clock within its life
        ops = [op for op in ops if op not in clocks[1:]]
    return Plan(
        seed=draw(st.integers(0, 2**32 - 1)),
        workers=draw(st.integers(2, 3)),
        concurrency=draw(st.integers(1, 6)),
        rest=draw(st.sampled_from([0.0, 5.0, 15.0])),
        ops=ops,
        faults=[_call_fault(draw) for _ in range(draw(st.integers(0, 12)))],
    )
