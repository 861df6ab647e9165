"""What must hold in every state, said without the scripts' own words."""

from __future__ import annotations

from property_tests.model.claim import find
from property_tests.model.state import (
    ACKED,
    ANSWERED,
    AWAKE,
    BACKLOG,
    BLOCKED,
    CONFIRMING,
    DRAINING,
    ENDED,
    HANDED_BACK,
    KNOWN,
    NOTHING,
    OUT,
    RUNG,
    RUNNING,
    SETTLED,
    UP,
    Server,
    State,
    Worker,
    bodies,
    tokens,
)
from property_tests.model.world import UNLIMITED, World


def could_claim(
    c: World, s: Server, member: int, pool: int, rest: bool = False, expired: bool = True
) -> bool:
    """A claim of this member, with a free consumer, must grant something.

    A ready job under a free limit; a handed back or dead member's one under a limit that live members do not use up, if it
    is no suspect or the member holds none. While somebody *else* is hungry, it reads only up to its part. ``rest``: could
    it still, after a claim that left it room? Of unlimited lanes a claim takes only a part, so they do not count then.
    ``expired`` off: what expired members own does not count; no write announces it, a timer finds it.
    """
    if find(s.members, member) is None:
        return False
    alive = {x.id for x in s.members}
    holds_suspect = bool(c.max_crashes) and any(
        e.owner == member and e.crashes == c.max_crashes - 1 for e in s.entries
    )
    for lane in c.bells[pool]:
        limit = s.limits[lane]
        if (s.quarantine and limit < UNLIMITED) or (rest and limit >= UNLIMITED):
            continue
        entries = [e for e in s.entries if c.jobs[e.job] == lane and e.owner != ACKED]
        held = sum(e.owner in alive for e in entries)
        used = sum(e.owner != BACKLOG for e in entries)
        hungry = {x.member for x in s.hungry if x.lane == lane} - {member}
        others = sum(e.owner not in (BACKLOG, member) and e.owner not in hungry for e in entries)
        own = sum(e.owner == member for e in entries)
        below = not hungry or limit >= UNLIMITED or own * (len(hungry) + 1) < limit - others
        if used < limit and below and any(e.owner == BACKLOG for e in entries):
            return True
        if not expired:
            entries = [e for e in entries if e.owner == HANDED_BACK]
        if held < limit and any(adoptable(c, e.owner, e.crashes, alive, holds_suspect) for e in entries):
            return True
    return False


def adoptable(c: World, owner: int, crashes: int, alive: set[int], holds_suspect: bool) -> bool:
    if owner == BACKLOG or owner in alive:
        return False
    crashes += owner != HANDED_BACK
    return not (c.max_crashes and holds_suspect and crashes == c.max_crashes - 1)


def two_bodies(c: World, state: State) -> str | None:
    """At most one body of a job, but for unlimited lanes once a lease ended or the server forgot; never two in one worker."""
    seen: set[int] = set()
    twice = 0
    for w in state.workers:
        own: set[int] = set()
        for x in w.held:
            if x.phase != RUNNING:
                continue
            if x.job in own:
                return "TWICE two bodies of one job in one worker"
            own.add(x.job)
            if w.deadline or not c.pause or c.limits[c.jobs[x.job]] >= UNLIMITED:
                twice |= (x.job in seen) << x.job
                seen.add(x.job)
    if not twice:
        return None
    for j, lane in enumerate(c.jobs):
        excused = c.limits[lane] >= UNLIMITED and (state.env.adopted >> j & 1 or state.env.epoch)
        if twice >> j & 1 and not excused:
            return "TWICE two bodies of one job run at once"
    return None


def handed_back(c: World, state: State) -> str | None:
    """No entry is handed back while its body runs."""
    back = {(e.id, e.n) for e in state.server.entries if e.owner == HANDED_BACK}
    if back and not state.env.epoch:
        for w in state.workers:
            if (w.deadline or not c.pause) and any(
                x.phase == RUNNING and (x.id, x.n) in back for x in w.held
            ):
                return "BACK an entry was handed back while its body runs"
    return None


def conserved(c: World, state: State) -> str | None:
    """Every submitted job is in exactly one place; an outcome needs a body or a dead letter; the dead are poisonous."""
    s, env = state.server, state.env
    where = [0] * len(c.jobs)
    for e in s.entries:
        where[e.job] += 1
    for j, outcomes in enumerate(s.outcomes):
        n = where[j] + (s.delayed >> j & 1) + outcomes
        if n == 0 and s.submitted >> j & 1:
            return f"LOSS job {j} is nowhere"
        if n > 1:
            return f"PLACES job {j} is in {n} places"
        if outcomes and not (env.ran | s.dead) >> j & 1:
            return f"LOSS job {j} has an outcome but no body completed"
        if c.poison and s.dead >> j & 1 and j not in c.poison:
            return f"INNOCENT job {j} is a dead letter"
    return None


def free(c: World, w: Worker) -> int:
    return c.consumers - sum(x.phase in (KNOWN, RUNNING) for x in w.held)


def will_claim(c: World, w: Worker) -> bool:
    """The worker is on its way to a claim, or to passing its ring on, that is executed after this moment."""
    if w.status == OUT:  # its lease ended, it is not dead: it joins, and claims if it has room
        return bool(w.old) and free(c, w) > 0
    if w.status not in (UP, DRAINING):
        return False
    if w.bell == RUNG:
        return (w.status == UP and free(c, w) > 0) or not c.broken.full_eats
    if w.exchange.stage == SETTLED or any(x.phase in ENDED for x in w.held):
        return True
    if w.status == UP and free(c, w) > 0 and (w.mine or w.confirm or w.exchange.stage == CONFIRMING):
        return True
    idle = w.exchange.stage == NOTHING or (
        w.exchange.stage == ANSWERED and w.exchange.status not in ("OK", "LOST")
    )
    return w.status == UP and w.bell == AWAKE and free(c, w) > 0 and idle


def heard(c: World, state: State) -> str | None:
    """P3: where a blocked worker could claim, a ring is unread or somebody is about to claim."""
    s = state.server
    if any(will_claim(c, w) for w in state.workers):
        return None
    for w in state.workers:
        if w.status != UP or w.bell != BLOCKED or w.mine or w.confirm or s.rings[w.pool]:
            continue
        if w.epoch != state.env.epoch:  # its next renewal tells it, and it claims after confirming
            continue
        if free(c, w) > 0 and w.deadline > c.off and could_claim(c, s, w.member, w.pool, expired=False):
            return "RING a blocked worker could claim, nobody is about to, and no ring is unread"
    return None


def violation(c: World, state: State) -> str | None:
    """The first thing that is wrong with a state."""
    used, run, owed = tokens(c, state.server), bodies(c, state.workers), state.env.owed
    for lane in c.lanes:
        if run[lane] > owed[lane]:
            return f"BODIES {run[lane]} bodies run, limit {owed[lane]}"
        if used[lane] > owed[lane]:
            return f"TOKENS {used[lane]} tokens used, limit {owed[lane]}"
    bad = two_bodies(c, state) or handed_back(c, state) or conserved(c, state)
    if not bad and c.bell and not c.poll:
        bad = heard(c, state)
    return bad
