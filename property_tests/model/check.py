"""The search: breadth first, so that a counterexample is a shortest one; and the fair run to the end from any state."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from property_tests.model import loop, surroundings, worker
from property_tests.model.claim import ring
from property_tests.model.spec import violation
from property_tests.model.state import (
    DRAINING,
    KILLED,
    LEFT,
    OUT,
    STOPPED,
    UP,
    Label,
    Server,
    State,
    absent,
    initial,
)
from property_tests.model.worker import Moves, Successor
from property_tests.model.world import World


def successors(c: World, state: State) -> list[Successor]:
    """(what happens, the state after, or what was done wrong on the way)."""
    mv = Moves(c, state)
    before = None
    for i, w in enumerate(state.workers):
        if w == before:  # sorted, so the same as its neighbour: interchangeable
            continue
        before = w
        if w.status in (UP, DRAINING):
            worker.faults(mv, i, w)
            worker.deadline(mv, i, w)
            if not c.prompt or w.confirm or w.epoch != state.env.epoch:
                worker.lease(mv, i, w)
            loop.continue_exchange(mv, i, w)
            loop.exchange(mv, i, w)
            if w.confirm or w.mine:
                loop.reconcile(mv, i, w)
            worker.work(mv, i, w)
            worker.ending(mv, i, w)
            if c.bell:
                loop.bell(mv, i, w)
            if c.broken.retry_in_two:
                loop.second_half(mv, i, w)
        elif w.status in (OUT, KILLED):
            worker.outside(mv, i, w)
        elif w.status == STOPPED:
            mv.add(("SIGCONT", w.member), i, w._replace(status=UP))
            if mv.env.budget.crash:
                mv.add(("SIGKILL", w.member), i, absent(w.pool, KILLED), env=mv.spend("crash"))
    if state.env.limbo:
        surroundings.limbo(mv)
    surroundings.producers(mv)
    surroundings.operator(mv)
    surroundings.accidents(mv)
    surroundings.time(mv)
    return mv.found


RANK = {
    kind: rank
    for rank, kind in enumerate(
        (
            "SIGCONT", "limbo executes", "deadline overdue", "renew refused", "claim refused", "confirm refused",
            "mine refused", "settle late", "renew reply", "confirm reply", "claim after settle", "reply", "confirm", "mine",
            "thread confirms", "renew", "retry part 2", "settle", "unstarted is released", "leave", "body ends", "body kills its worker",
            "body starts", "stops reading the bell", "claim passes the ring on", "claim", "ring wakes", "join", "join refused",
            "promote", "promote part 2", "promote part 1", "submit", "deadline reached", "tick",
        )
    )
}  # fmt: skip
"""Which step a fair run without faults takes first. What is not listed is a fault."""


def finished(c: World, s: Server) -> bool:
    return not s.entries and not s.delayed and s.submitted == (1 << len(c.jobs)) - 1 and all(s.outcomes)


def without_faults(c: World, state: State) -> State:
    """The same state with all budgets spent, paused lanes opened, and those who left back as new processes."""
    s, workers, env = state
    budget = type(env.budget)(0, 0, 0, 0, 9, 0, 0, 0, 0, 0)
    limits = tuple(max(1, x) for x in s.limits)
    s = ring(c, s._replace(limits=limits), "limit", c.lanes) if limits != s.limits else s
    owed = tuple(max(pair) for pair in zip(env.owed, limits, strict=True))
    workers = tuple(sorted(w._replace(status=KILLED) if w.status == LEFT else w for w in workers))
    return State(s, workers, env._replace(replica=(), budget=budget, owed=owed, retries=0))


def drains(c: World, state: State, good: set[int]) -> str | None:
    """Without further faults every job ends and nothing stays pending; None, or what does not.

    ``good`` collects hashes of states from which it is known.
    """
    state = without_faults(c, state)
    joins = state.env.budget
    path: list[int] = []
    for _ in range(500):
        h = hash(state)
        if h in good or finished(c, state.server):
            good.update(path)
            return None
        path.append(h)
        rank, chosen = len(RANK), None
        for step in successors(c, state):
            mine = RANK.get(step[0][0], rank)
            if mine < rank:
                rank, chosen = mine, step
        if chosen is None:
            return "STUCK nothing can happen any more"
        _, after, bad = chosen
        if bad:
            return "STUCK while draining: " + bad
        state = after._replace(env=after.env._replace(budget=joins))
    return "STUCK never drains: a job or a token stays"


class Result(NamedTuple):
    states: int
    violation: str | None
    steps: int
    """Length of the shortest counterexample; 0 where there is none."""
    complete: bool
    """False: stopped at the bound."""
    trace: tuple[Label, ...]


def search(c: World, most: int, every: int) -> Result:
    """Visit at most ``most`` states; run each ``every``-th one to its end."""
    first = initial(c)
    parents: dict[int, int] = {hash(first): 0}
    queue: deque[tuple[State, int]] = deque([(first, hash(first))])
    good: set[int] = set()
    n = 0
    while queue:
        state, h = queue.popleft()
        n += 1
        wrong = violation(c, state) or (drains(c, state, good) if n % every == 0 else None)
        if wrong:
            trace = retrace(c, parents, h)
            return Result(n, wrong, len(trace), True, trace)
        if n >= most:
            return Result(n, None, 0, False, ())
        for _, after, bad in successors(c, state):
            key = hash(after)
            if bad:
                trace = retrace(c, parents, h, bad)
                return Result(n, bad, len(trace), True, trace)
            if key not in parents:
                parents[key] = h
                queue.append((after, key))
    return Result(n, None, 0, True, ())


def retrace(c: World, parents: dict[int, int], last: int, bad: str | None = None) -> tuple[Label, ...]:
    """The labels from the start to a state, found again by following the hashes."""
    hashes = [last]
    while parents[hashes[-1]]:
        hashes.append(parents[hashes[-1]])
    state = initial(c)
    trace: list[Label] = []
    for h in hashes[-2::-1]:
        label, state = next((label, after) for label, after, _ in successors(c, state) if hash(after) == h)
        trace.append(label)
    if bad:
        trace.append(next(label for label, _, why in successors(c, state) if why == bad))
    return tuple(trace)


def said(label: Label) -> str:
    return " ".join(str(x) for x in label)
