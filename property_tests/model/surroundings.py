"""Everything that is no worker's doing: late requests, producers, operators, the server's accidents, and time (R1)."""

from __future__ import annotations

from collections.abc import Callable

from property_tests.model.change import command
from property_tests.model.claim import claim, claimable, hinted
from property_tests.model.scripts import add, expire, mine, renew, set_limit, settle
from property_tests.model.state import (
    ANSWERED,
    AWAKE,
    BACKLOG,
    BLOCKED,
    DRAINING,
    NO_EXCHANGE,
    NOTHING,
    PAUSED,
    SETTLED,
    STOPPED,
    UP,
    Server,
    State,
    Worker,
)
from property_tests.model.worker import Moves
from property_tests.model.world import World

MEMBER = (UP, DRAINING, STOPPED)


def limbo(mv: Moves) -> None:
    """Requests whose client gave up are executed at any later time, or never."""
    c, env = mv.c, mv.env
    for k, z in enumerate(env.limbo):
        rest = env._replace(limbo=env.limbo[:k] + env.limbo[k + 1 :])
        pool = next((x.pool for x in mv.server.members if x.id == z.member), 0)
        said: object
        bad: str | None = None
        if z.kind == "claim":
            claimed = claim(c, mv.server, env.epoch, z.member, z.session, z.epoch, z.room, pool)
            server, said, bad = claimed.server, claimed.grants or claimed.status, claimed.bad
            rest = rest._replace(adopted=rest.adopted | claimed.adopted)
        elif z.kind == "settle":
            server, said, bad = settle(c, mv.server, env.epoch, z.member, z.items, False, pool)
        elif z.kind == "renew":
            server, said = renew(c, mv.server, env.epoch, z.member, z.epoch, z.change)
        else:
            known = tuple((x.id, x.n) for x in z.items)
            server, said, _ = mine(c, mv.server, z.member, z.session, known)
        mv.add(("limbo executes", z.kind, z.member, said), server=server, env=rest, bad=bad)


def producers(mv: Moves) -> None:
    """submit, promote, and limits that are changed."""
    c, s = mv.c, mv.server
    for j in range(len(c.jobs)):
        if s.delayed >> j & 1:
            added = add(c, s, j, "promote")
            if not c.broken.promote_in_two:
                mv.add(("promote", j), server=added._replace(delayed=s.delayed & ~(1 << j)))
            elif not any(e.job == j for e in s.entries):
                mv.add(("promote part 1", j), server=added)
            else:
                mv.add(("promote part 2", j), server=s._replace(delayed=s.delayed & ~(1 << j)))
        if not s.submitted >> j & 1 and not twin_waits(c, s, j):
            mv.add(("submit", j), server=add(c, s, j, "submit"))
    if mv.env.budget.limits:
        anew = mv.spend("limits")._replace(withheld=0)
        for lane in c.lanes:
            for value in c.limit_values:
                if value != s.limits[lane]:
                    label = ("limit of lane", lane, s.limits[lane], "->", value)
                    mv.add(label, server=set_limit(c, s, lane, value), env=anew)


def operator(mv: Moves) -> None:
    """``flowq limits --lease-ttl``, there and back."""
    c, env = mv.c, mv.env
    for to in (c.ttl, c.to) if c.to and env.budget.commands else ():
        server = command(c, mv.server, to, env.nonce + 1)
        if server:
            after = mv.spend("commands")._replace(nonce=env.nonce + 1)
            mv.add(("lease TTL ->", to, server.change), server=server, env=after)


def silence(c: World, s: Server) -> int:
    """Quarantine in ticks."""
    if c.broken.no_quarantine:
        return 0
    return s.ttl if c.quarantine < 0 else c.quarantine


def twin_waits(c: World, s: Server, job: int) -> bool:
    """A job with a lower number, of the same lane and kind, is not submitted either: they are interchangeable."""
    alike = (j for j in range(job) if c.jobs[j] == c.jobs[job] and (j in c.poison) == (job in c.poison))
    return any(not s.submitted >> j & 1 for j in alike)


def reconnected(c: World, w: Worker) -> Worker:
    """The server went away: what is in the loop's buffer may still be read, the next session begins with ``mine``."""
    if w.status not in MEMBER:
        return w
    due = not c.broken.no_mine and (not c.broken.mine_lazy or w.exchange.stage in (SETTLED, ANSWERED))
    kept = w.exchange if w.exchange.stage != SETTLED else NO_EXCHANGE
    confirm = not c.broken.thread_confirms
    return w._replace(session=w.session + 1, mine=w.mine or due, confirm=confirm, exchange=kept, bell=AWAKE)


def accidents(mv: Moves) -> None:
    """Failover to a stale replica, restarts, and the ways in which a server forgets."""
    c, s, env = mv.c, mv.server, mv.env
    if env.budget.failover:
        if not env.replica:
            mv.add(("replica is cut here",), env=env._replace(replica=s))
        new = env.replica or s
        last = new.last_id if c.id_reuse else max(s.last_id, new.last_id)
        after = mv.spend("failover")._replace(epoch=env.epoch + 1, replica=(), limbo=())
        label = ("FAILOVER to the stale replica",) if env.replica else ("server restarts, nothing lost",)
        workers = tuple(sorted(reconnected(c, w) for w in mv.workers))
        server = new._replace(quarantine=silence(c, new), last_id=last, since=0)
        mv.found.append((label, State(server, workers, after), None))
    if env.budget.forget:
        forget(mv)
    if env.budget.jump:
        mv.add(("server clock jumps by G",), server=expire(c, s, 1, set()), env=mv.spend("jump"))


def forget(mv: Moves) -> None:
    c, s, env = mv.c, mv.server, mv.env
    after = mv.spend("forget")
    epoch = env.epoch + (not c.broken.virgin)
    quarantine = s.quarantine if c.broken.virgin else silence(c, s)
    everywhere = (1 << len(c.limits)) - 1
    if c.forgets == "members":  # the sentinel in it tells; with `virgin` there is none
        server = hinted(c, s._replace(members=(), quarantine=quarantine), "forgot", everywhere)
        mv.add(("DEL members",), server=server, env=after._replace(epoch=epoch))
    elif c.forgets == "group":  # pending lists are lost and entries are read again; connections stay
        entries = tuple(e._replace(owner=BACKLOG, n=0) for e in s.entries)
        server = hinted(c, s._replace(entries=entries, quarantine=quarantine), "forgot", everywhere)
        mv.add(("XGROUP DESTROY",), server=server, env=after._replace(epoch=epoch))
    else:
        n = len(c.jobs)
        # where TTLs change, the quarantine is the first comer's to begin: it alone says how long
        quarantine = 0 if c.broken.virgin or c.to else silence(c, s)
        empty = Server((), 0, 0, (0,) * n, 0, (), quarantine, 0, c.limits, (), (0,) * len(c.bells), 0)
        empty = empty._replace(ttl=0 if c.to else c.ttl)
        after = after._replace(epoch=env.epoch + 1, replica=(), limbo=())
        workers = tuple(sorted(reconnected(c, w) for w in mv.workers))
        mv.found.append((("FLUSHALL, or a restart without persistence",), State(empty, workers, after), None))


def time(mv: Moves) -> None:
    """One tick for all clocks (one rate is the assumption of P2)."""
    c, s, env = mv.c, mv.server, mv.env
    if not mv.may_tick:
        return
    alive: set[int] = set()
    if c.prompt:
        alive = {w.member for w in mv.workers if w.status in MEMBER and w.epoch == env.epoch}
    server = expire(c, s, 1, alive)
    # the end of a quarantine is known from the claim's reply: a timer
    woken = bool(c.bell and (c.poll or (s.quarantine and not server.quarantine)))
    known = {x.id for x in server.members} | {e.owner for e in server.entries}
    if env.replica:
        known |= {x.id for x in env.replica.members} | {e.owner for e in env.replica.entries}
    age = ager(c, woken, known, alive)
    after = env
    if env.withheld:
        going_on = any(claimable(c, server, lane) for lane in c.lanes)
        after = env._replace(withheld=min(c.hungry + 1, env.withheld + 1) if going_on else 0)
    state = State(server, tuple(sorted(map(age, mv.workers))), after)
    if state != (s, mv.workers, env):
        mv.found.append((("tick",), state, None))


def ager(c: World, woken: bool, known: set[int], renewed: set[int]) -> Callable[[Worker], Worker]:
    """What a tick does to a worker. Old ids that mean nothing to any server are forgotten: one state instead of many."""
    cap = max(c.ttl, c.to) + 1

    longest = max(c.ttl, c.to) if c.to else 0

    def age(w: Worker) -> Worker:
        if w.ttl:
            w = w._replace(silent=min(longest, w.silent + 1))
        if w.status not in MEMBER:
            return (
                w._replace(old=tuple(x for x in w.old if x in known))
                if w.old and not w.held and not c.bell
                else w
            )
        renewal, x = w.renewal, w.exchange
        if renewal.age >= 0:
            renewal = renewal._replace(age=min(cap, renewal.age + 1))
        if x.stage != NOTHING and not c.prompt:
            x = x._replace(age=min(cap, x.age + 1))
        bell = BLOCKED if w.bell == PAUSED else w.bell
        if woken and bell == BLOCKED:
            bell = AWAKE
        deadline = w.deadline if w.member in renewed else max(0, w.deadline - 1)
        return w._replace(deadline=deadline, renewal=renewal, exchange=x, bell=bell)

    return age
