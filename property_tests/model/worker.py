"""A worker's life: join, lease, end; and the thread that renews (R2, R3, R9, R10). The loop's own work is in ``loop``."""

from __future__ import annotations

from property_tests.model import change
from property_tests.model.change import deployed
from property_tests.model.claim import Claimed
from property_tests.model.scripts import confirm, join, leave, renew, running, settle, unsettled
from property_tests.model.state import (
    AGAIN,
    ANSWERED,
    AWAKE,
    DRAINING,
    ENDED,
    EPOCH,
    KILLED,
    KNOWN,
    LEFT,
    LOST,
    NO_RENEWAL,
    NOTHING,
    OUT,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    UP,
    Env,
    Held,
    Label,
    Limbo,
    Member,
    Renewal,
    Server,
    State,
    Worker,
    absent,
    bodies,
    tokens,
)
from property_tests.model.world import UNLIMITED, World

Successor = tuple[Label, State, str | None]


class Moves:
    """Collects the successors of one state."""

    def __init__(self, c: World, state: State) -> None:
        self.c = c
        self.server, self.workers, self.env = state
        self.found: list[Successor] = []
        self.may_tick = True

    def add(
        self,
        label: Label,
        i: int = -1,
        worker: Worker | None = None,
        server: Server | None = None,
        env: Env | None = None,
        bad: str | None = None,
    ) -> None:
        """One successor: worker ``i`` replaced, and the server, and the rest, where given. Workers are interchangeable."""
        workers = self.workers
        if worker is not None:
            workers = tuple(sorted((*workers[:i], worker, *workers[i + 1 :])))
        server = server or self.server
        env = env or self.env
        if self.c.to:
            env = env._replace(may=deployed(self.server, server, env.may))
        if self.c.limit_changes:
            used, run = tokens(self.c, server), bodies(self.c, workers)
            owed = zip(server.limits, env.owed, used, run, strict=True)
            env = env._replace(owed=tuple(max(limit, min(o, max(u, r))) for limit, o, u, r in owed))
        self.found.append((label, State(server, workers, env), bad))

    def spend(self, what: str) -> Env:
        b = self.env.budget
        return self.env._replace(budget=b._replace(**{what: getattr(b, what) - 1}))

    def limbo(self, request: Limbo) -> Env:
        return self.spend("net")._replace(limbo=(*self.env.limbo, request))

    def judged(self, claimed: Claimed) -> tuple[Env, str | None]:
        """What a claim means for the history: adoptions, and how long work was withheld (R14)."""
        c, env, bad = self.c, self.env, claimed.bad
        if claimed.adopted & ~env.adopted:
            env = env._replace(adopted=env.adopted | claimed.adopted)
        if c.hungry:
            since = env.withheld
            if claimed.capped and not claimed.grants:
                if since > c.hungry:
                    bad = bad or "WITHHELD work that could run waits longer than a hungry mark lives"
                env = env if since else env._replace(withheld=1)
            elif claimed.grants and since:
                env = env._replace(withheld=0)
        if c.strict and not bad:
            bad = above_limit(c, self.server, claimed.server)
        return env, bad


def above_limit(c: World, s: Server, new: Server) -> str | None:
    """A claim may not leave more entries with live members than the limit of now, unless it gave none."""
    alive = {x.id for x in s.members}
    for lane in c.lanes:
        before, after = (sum(e.owner in alive for e in x.entries if c.jobs[e.job] == lane) for x in (s, new))
        if after > before and after > s.limits[lane]:
            return "ABOVE a claim granted above the limit in force"
    return None


def unused_id(mv: Moves) -> int:
    """The smallest member id that nothing refers to: stands for a fresh random one."""
    used: set[int] = set()
    for s in (mv.server, mv.env.replica):
        if s:
            used.update(x.id for x in s.members)
            used.update(e.owner for e in s.entries)
            used.update(x.member for x in s.hungry)
    for w in mv.workers:
        used.add(w.member)
        used.update(w.old)
    used.update(z.member for z in mv.env.limbo)
    m = 1
    while m in used:
        m += 1
    return m


def goes_on(c: World, x: Held) -> bool:
    """May this delivery outlive the lease under which it was granted?"""
    return c.broken.keep_limited or (c.keep and c.limits[c.jobs[x.job]] >= UNLIMITED)


def retired(c: World, w: Worker) -> Worker:
    """Bodies are cancelled, but those of unlimited lanes that may go on; what had ended may still be told (R9)."""
    kept = tuple(x for x in w.held if x.phase in ENDED or (x.phase == RUNNING and goes_on(c, x)))
    gone = absent(w.pool, OUT, kept, (w.member,))._replace(ttl=w.ttl, change=w.change, silent=w.silent)
    late = c.broken.late_start and w.exchange.stage == ANSWERED
    return gone._replace(exchange=w.exchange) if late else gone


def outside(mv: Moves, i: int, w: Worker) -> None:
    """Not a member: tell under the old id what had ended, then join under a fresh one; kept bodies go on meanwhile."""
    if w.status == OUT and w.held:
        work(mv, i, w)
        tell_late(mv, i, w)
        if mv.env.budget.crash:
            mv.add(("SIGKILL while out",), i, absent(w.pool, KILLED), env=mv.spend("crash"))
    if mv.env.budget.joins:
        rejoin(mv, i, w)


def tell_late(mv: Moves, i: int, w: Worker) -> None:
    """Settle under the former membership: it counts if nobody has taken it over (R8, R9)."""
    ended = unsettled(w.held)
    if not ended:
        return
    done = settle(mv.c, mv.server, mv.env.epoch, w.old[0], ended, True, w.pool)
    told = {(entry, n, epoch) for entry, n, epoch, answer in done.answers if answer != EPOCH}
    left = tuple(x for x in w.held if x.phase not in ENDED or (x.id, x.n, x.epoch) not in told)
    if told:
        mv.add(("settle late", w.old[0], done.answers), i, w._replace(held=left), done.server, bad=done.bad)
    if told and mv.env.budget.net:
        label = ("settle late", w.old[0], "its reply lost")
        mv.add(label, i, w, done.server, mv.spend("net"), done.bad)


def rejoin(mv: Moves, i: int, w: Worker) -> None:
    """A process that was a member keeps what it was configured with; a new one has what the operator starts by now."""
    may = (mv.c.ttl,) if not mv.c.to else (w.ttl,) if w.ttl else mv.env.may
    for ttl in may:
        admission = change.admit(mv.c, mv.server, w, ttl, mv.env.nonce + 1)
        if admission.answer == change.GRANTED:
            joined(mv, i, w, ttl, admission.server)
        elif admission.answer == change.WAIT and w.change != admission.server.change:
            waits = w._replace(ttl=ttl, change=admission.server.change, silent=0)
            mv.add(("join waits", ttl), i, waits, admission.server)
        elif admission.answer == change.REFUSED and w.ttl:
            mv.add(("join refused", ttl), i, absent(w.pool, KILLED), admission.server)


def joined(mv: Moves, i: int, w: Worker, ttl: int, server: Server) -> None:
    c, env = mv.c, mv.env
    if server.change[2:] == (env.nonce + 1,):
        env = env._replace(nonce=env.nonce + 1)
    m = w.member or unused_id(mv)
    keep = tuple(x for x in w.held if goes_on(c, x))
    server, kept = join(c, server, Member(m, 0, 0, w.pool, ttl if c.to else 0), w.old, keep)
    held = tuple(sorted(x._replace(epoch=env.epoch) for x in keep if (x.id, x.n) in kept))
    bad = None
    ids = {x.id for x in held}
    if not env.epoch and any(
        x.phase == RUNNING and x.id not in ids and not env.adopted >> x.job & 1 for x in keep
    ):
        bad = "DROPPED a body that went on lost its entry, though nobody had adopted it"
    new = absent(w.pool, UP, held)._replace(
        member=m, epoch=env.epoch, exchange=w.exchange, ttl=ttl if c.to else 0, change=server.change
    )
    new = new._replace(deadline=change.deadline(c, new))
    after = env._replace(budget=env.budget._replace(joins=env.budget.joins - 1))
    mv.add(("join", m, "keeps", kept) if keep else ("join", m), i, new, server, after, bad)
    if (keep or c.to) and env.budget.net and env.budget.joins > 1:
        after = after._replace(budget=after.budget._replace(net=after.budget.net - 1))
        old = w.old if c.broken.join_names_first else (*w.old, m)
        lost = w._replace(old=old, ttl=ttl if c.to else 0)
        mv.add(("join of", m, "executed, its reply lost"), i, lost, server, after)


def work(mv: Moves, i: int, w: Worker) -> None:
    """Bodies start, end, fail, kill their worker, are released."""
    c, env, b = mv.c, mv.env, mv.c.broken
    for k, x in enumerate(w.held):

        def to(phase: str, k: int = k, x: Held = x) -> Worker:
            return w._replace(held=tuple(sorted((*w.held[:k], x._replace(phase=phase), *w.held[k + 1 :]))))

        if x.phase == KNOWN and w.status == UP:
            same = x.epoch == w.epoch or b.no_grant_epoch
            if (w.deadline > c.off and same) or b.late_start:
                mv.add(("body starts", w.member, "e", x.id), i, to(RUNNING))
        elif x.phase == RUNNING:
            if x.job in c.poison:
                mv.add(("body kills its worker", w.member, "e", x.id), i, absent(w.pool, KILLED))
            else:
                ran = env if env.ran >> x.job & 1 else env._replace(ran=env.ran | 1 << x.job)
                mv.add(("body ends", w.member, "e", x.id), i, to(SUCCEEDED), env=ran)
                if env.retries >> x.job & 1:
                    left = env._replace(retries=env.retries & ~(1 << x.job))
                    mv.add(("body fails", w.member, "e", x.id), i, to(AGAIN), env=left)
        if x.phase in (KNOWN, RUNNING) and w.status == UP and env.budget.release:
            mv.add(("release", w.member, "e", x.id), i, to("R"), env=mv.spend("release"))
        if x.phase == KNOWN and w.status == DRAINING:
            mv.add(("unstarted is released", w.member, "e", x.id), i, to("R"))


def faults(mv: Moves, i: int, w: Worker) -> None:
    """Signals, for a worker that is up."""
    c, env = mv.c, mv.env
    if env.budget.crash:
        dead = absent(w.pool, KILLED)
        if c.broken.same_id:
            dead = dead._replace(member=w.member)
        mv.add(("SIGKILL", w.member), i, dead, env=mv.spend("crash"))
    if env.budget.pause and running(w.held) and w.status == UP:
        mv.add(("SIGSTOP", w.member), i, w._replace(status=STOPPED), env=mv.spend("pause"))


def deadline(mv: Moves, i: int, w: Worker) -> None:
    """The watchdog: no tick passes while bodies that must be out are not."""
    if w.deadline > mv.c.off or mv.c.broken.no_watchdog:
        return
    kind = "deadline overdue" if w.deadline < mv.c.off else "deadline reached"
    mv.add((kind, w.member, "retires"), i, retired(mv.c, w))
    if w.deadline <= 1:
        mv.may_tick = False


def lease(mv: Moves, i: int, w: Worker) -> None:
    """The thread renews. It tells the loop of another epoch and extends nothing then (R3)."""
    c = mv.c
    if w.renewal.age >= 0:
        renewed(mv, i, w)
    elif w.confirm and c.broken.thread_confirms:
        server, status, ids = confirm(c, mv.server, w.member, w.held)
        sent = w._replace(renewal=Renewal(0, status, mv.env.epoch, ids))
        mv.add(("thread confirms", w.member, status, ids), i, sent, server)
    elif w.deadline < change.deadline(c, w) or change.is_unsaid(mv.server, w):
        server, status = renew(c, mv.server, mv.env.epoch, w.member, w.epoch, w.change)
        sent = w._replace(renewal=Renewal(0, status, 0, (), server.change))
        mv.add(("renew", w.member, status), i, sent, server)
        if mv.env.budget.net:
            late = Limbo("renew", w.member, w.session, w.epoch, 0, (), w.change)
            mv.add(("renew in limbo", w.member), i, w, env=mv.limbo(late))


def renewed(mv: Moves, i: int, w: Worker) -> None:
    """The reply to a renewal, some time after it was executed."""
    c = mv.c
    age, status, epoch, ids, told = w.renewal
    done = w._replace(renewal=NO_RENEWAL)
    if c.to and status != LOST:
        done = done._replace(silent=age)
    if status == LOST:
        mv.add(("renew refused", w.member, "retires"), i, retired(c, w))
    elif status == EPOCH:
        mv.add(("renew reply", w.member, status), i, change.heeded(c, done._replace(confirm=True), told))
    elif epoch:
        mv.add(("renew reply", w.member, "confirms", ids), i, in_epoch(c, done, epoch, ids, age))
    else:
        again = done._replace(deadline=extended(c, w, age))
        mv.add(("renew reply", w.member, status), i, change.heeded(c, again, told))
    if age >= change.trusted(c, w) - c.margin:
        mv.add(("renew reply dropped", w.member), i, w._replace(renewal=NO_RENEWAL))


def in_epoch(c: World, w: Worker, epoch: int, ids: tuple[tuple[int, int, int], ...], age: int) -> Worker:
    """Of an older epoch only the confirmed stays; the lease counts from the moment the confirm was sent."""
    b = c.broken
    held = tuple(x._replace(epoch=epoch) for x in w.held if x.epoch == epoch or (x.id, x.job, x.n) in ids)
    mine = w.mine or not (b.no_mine or b.mine_lazy or b.mine_early)
    deadline = extended(c, w, age)
    return w._replace(
        held=tuple(sorted(held)), epoch=epoch, confirm=False, mine=mine, deadline=deadline, bell=AWAKE
    )


def extended(c: World, w: Worker, age: int) -> int:
    """The deadline after a confirming reply to a request sent ``age`` ticks ago; a late one revives nothing."""
    trusted = change.trusted(c, w) - c.margin
    new = (trusted if c.broken.from_reply else max(0, trusted - age)) + c.off
    return max(w.deadline, new) if w.deadline >= c.off or c.broken.no_watchdog else w.deadline


def ending(mv: Moves, i: int, w: Worker) -> None:
    """Leave in two moves: stop claiming, then, with no body running and nothing unsent, end the membership (R10)."""
    c, budget = mv.c, mv.env.budget
    if w.status == UP and budget.leave and not c.broken.leave_running:
        mv.add(("leaving begins", w.member), i, w._replace(status=DRAINING), env=mv.spend("leave"))
    idle = w.exchange.stage == NOTHING and not running(w.held) and not unsettled(w.held)
    if w.status == DRAINING and idle:
        mv.add(("leave", w.member), i, absent(w.pool, LEFT), leave(c, mv.server, w.member, w.pool))
    if c.broken.leave_running and budget.leave and w.exchange.stage == NOTHING:
        mv.add(("leave", w.member), i, w, leave(c, mv.server, w.member, w.pool), mv.spend("leave"))
