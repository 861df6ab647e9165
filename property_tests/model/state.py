"""The nouns of the model. Everything is a tuple: states are compared, hashed and shared.

All times are *remaining* ticks, so nothing grows with time and a run that is not bounded has seen every reachable state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from property_tests.model.world import World

BACKLOG, HANDED_BACK, ACKED = 0, 90, 91
"""Owners that are no members. ACKED exists only where XACK without XDEL is tried."""

OUT, UP, DRAINING, STOPPED, KILLED, LEFT = "o", "u", "d", "p", "x", "l"
"""Worker: not a member (may join), member, leaving, SIGSTOPped, SIGKILLed (may be started anew), gone for good."""

KNOWN, RUNNING, SUCCEEDED, AGAIN, RELEASED, SECOND_HALF = "k", "r", "S", "T", "R", "2"
"""Delivery: known and not started, its body runs, ended three ways and not yet settled; the last for retry in two steps."""
ENDED = "STR"

AWAKE, BLOCKED, RUNG, PAUSED = 0, 1, 2, 3
"""Bell: not reading (claims if it has room), reading, a ring was read and nothing done about it yet, withheld and waiting."""

NOTHING, SETTLED, ANSWERED, CONFIRMING = "", "s", "a", "c"
"""Exchange: none; settle executed and its claim still to come; executed with the reply under way; a confirm likewise."""

OK, LOST, STALE, EPOCH, GONE, FENCED = "OK", "LOST", "STALE", "EPOCH", "GONE", "FENCED"


class Entry(NamedTuple):
    id: int
    job: int
    owner: int
    n: int
    """The pending list's delivery counter."""
    crashes: int


Change = tuple[int, ...]
"""Of the lease TTL: (from, to, nonce); empty: none is under way."""


class Member(NamedTuple):
    id: int
    left: int
    session: int
    pool: int
    ttl: int = 0
    """What its worker was configured with; 0 where no world changes it."""
    heard: Change = ()
    """The change that its last renewal said it heeds."""


class Mark(NamedTuple):
    """A member's claim on a lane came up short."""

    lane: int
    member: int
    left: int


class Server(NamedTuple):
    """Everything that a failover rolls back."""

    entries: tuple[Entry, ...]
    delayed: int
    submitted: int
    outcomes: tuple[int, ...]
    dead: int
    members: tuple[Member, ...]
    quarantine: int
    last_id: int
    limits: tuple[int, ...]
    hungry: tuple[Mark, ...]
    rings: tuple[int, ...]
    """Unread rings per pool."""
    ready: int
    """Hint: lanes that may have something to read or adopt."""
    ttl: int = 0
    """Expiry and quarantine; 0: the clock is lost."""
    change: Change = ()
    open: bool = False
    """Every live member heeds the change."""
    since: int = 0
    """Ticks since the epoch began, where TTLs change."""
    due: int = 0
    """Ticks for which the change cannot be complete yet."""


class Held(NamedTuple):
    """A delivery that a worker knows of."""

    id: int
    job: int
    n: int
    epoch: int
    phase: str


class Renewal(NamedTuple):
    age: int
    """Ticks since it was sent; -1: none in flight."""
    status: str
    epoch: int
    """Only where the thread confirms (W7, W8): the server's; else 0."""
    confirmed: tuple[tuple[int, int, int], ...]
    change: Change = ()


class Exchange(NamedTuple):
    stage: str
    age: int
    room: int
    """What the claim asks for; -1: no claim goes with this settle."""
    settled: tuple[tuple[int, int, int, str], ...]
    """(entry, n, epoch, answer)."""
    status: str
    epoch: int
    """The server's when the claim or confirm was executed."""
    grants: tuple[tuple[int, int, int], ...]
    """(entry, job, n): granted, or confirmed."""
    withheld: bool
    timer: bool
    """Executed in quarantine: the reply says when that ends."""


class Worker(NamedTuple):
    pool: int
    status: str
    member: int
    deadline: int
    """Local, plus ``World.off``."""
    epoch: int
    """In which the lease was last confirmed."""
    session: int
    mine: bool
    """Must call ``mine`` before anything else but confirm."""
    confirm: bool
    """Must confirm before anything else."""
    held: tuple[Held, ...]
    renewal: Renewal
    exchange: Exchange
    bell: int
    old: tuple[int, ...]
    """Former member ids under which the server may hold entries of this worker, the last that was answered first."""
    ttl: int = 0
    """What this process was configured with; 0: not started, or no world changes it."""
    change: Change = ()
    """What it was told of, and heeds."""
    silent: int = 0
    """Ticks since it sent the last request whose reply told it of a change, or of none; where TTLs change, and at most the largest."""


class Limbo(NamedTuple):
    """A request that the client gave up on and the server may still execute."""

    kind: str
    member: int
    session: int
    epoch: int
    room: int
    items: tuple[Held, ...]
    change: Change = ()


class Budget(NamedTuple):
    crash: int
    net: int
    pause: int
    failover: int
    joins: int
    limits: int
    leave: int
    release: int
    jump: int
    forget: int
    commands: int = 0


class Env(NamedTuple):
    """What is neither the server's nor a worker's: the epoch (a fresh nonce, never rolled back), the replica, what is owed."""

    epoch: int
    replica: Server | tuple[()]
    limbo: tuple[Limbo, ...]
    budget: Budget
    ran: int
    """Jobs of which a body completed."""
    owed: tuple[int, ...]
    """Per lane: the limit, or what was admitted under an older and higher one and has not ended."""
    retries: int
    adopted: int
    """Jobs of unlimited lanes that were ever taken from a member whose lease had ended."""
    withheld: int
    """Ticks + 1 since work that could run is withheld for hungry members; 0: none is."""
    may: tuple[int, ...] = ()
    """TTLs with which the operator may start a process."""
    nonce: int = 0
    """Of the last change."""


class State(NamedTuple):
    server: Server
    workers: tuple[Worker, ...]
    env: Env


Label = tuple[Any, ...]
"""What happened: a kind (text), then details of any sort, made into text only for traces."""

NO_RENEWAL = Renewal(-1, "", 0, ())
NO_EXCHANGE = Exchange(NOTHING, 0, 0, (), "", 0, (), False, False)


def absent(pool: int, status: str = OUT, held: tuple[Held, ...] = (), old: tuple[int, ...] = ()) -> Worker:
    """A worker that is not a member."""
    return Worker(pool, status, 0, 0, 0, 0, False, False, held, NO_RENEWAL, NO_EXCHANGE, AWAKE, old)


def initial(c: World) -> State:
    """The world at the start: jobs preloaded, nobody there."""
    n = len(c.jobs)
    pre = min(c.preloaded, n)
    entries = tuple(Entry(j + 1, j, BACKLOG, 0, 0) for j in range(pre))
    bits = (1 << len(c.limits)) - 1 if c.hint else 0
    server = Server(
        entries, 0, (1 << pre) - 1, (0,) * n, 0, (), 0, pre, c.limits, (), (0,) * len(c.bells), bits, c.ttl
    )
    budget = Budget(
        c.crash,
        c.net,
        c.pause,
        c.failover,
        c.joins,
        c.limit_changes,
        c.leave,
        c.release,
        c.jump,
        c.forget,
        c.commands,
    )
    retries = (1 << n) - 1 if c.retry else 0
    env = Env(0, (), (), budget, 0, c.limits, retries, 0, 0, (c.ttl,) if c.to else ())
    if c.under_way:
        way = (c.ttl, c.to, 1)
        before = Member(len(c.workers) + 1, max(way[:2]), 0, 0, c.ttl, way)
        members = (before,) if c.held_up else ()
        server = server._replace(ttl=max(way[:2]), change=way, open=True, members=members)
        server = server._replace(due=c.to if c.to > c.ttl else 0)
        env = env._replace(may=(c.ttl, c.to), nonce=1)
    if c.replica_ttl:
        env = env._replace(replica=server._replace(ttl=c.replica_ttl))
    workers = [absent(pool) for pool in c.workers]
    if c.left_behind:
        workers[0] = workers[0]._replace(ttl=c.replica_ttl or c.ttl)
    return State(server, tuple(sorted(workers)), env)


def tokens(c: World, s: Server) -> list[int]:
    """Entries pending per lane."""
    used = [0] * len(c.limits)
    for e in s.entries:
        if e.owner and e.owner != ACKED:
            used[c.jobs[e.job]] += 1
    return used


def bodies(c: World, workers: tuple[Worker, ...]) -> list[int]:
    """Bodies running per lane; where there is SIGSTOP, those past their deadline are the excused holders."""
    running = [0] * len(c.limits)
    for w in workers:
        for x in w.held:
            if x.phase == RUNNING and (w.deadline or not c.pause):
                running[c.jobs[x.job]] += 1
    return running
