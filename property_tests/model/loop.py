"""The worker's loop: one exchange at a time (settle + claim, confirm, or mine), and the bell (R4, R5, R7, R8, R16)."""

from __future__ import annotations

from property_tests.model import change
from property_tests.model.claim import Claimed, claim
from property_tests.model.scripts import confirm, mine, settle, unsettled
from property_tests.model.spec import could_claim
from property_tests.model.state import (
    AGAIN,
    ANSWERED,
    AWAKE,
    BLOCKED,
    CONFIRMING,
    DRAINING,
    ENDED,
    EPOCH,
    KNOWN,
    LOST,
    NO_EXCHANGE,
    NOTHING,
    OK,
    PAUSED,
    RUNG,
    RUNNING,
    SECOND_HALF,
    SETTLED,
    UP,
    Exchange,
    Held,
    Limbo,
    Worker,
)
from property_tests.model.worker import Moves, in_epoch, retired
from property_tests.model.world import World


def room_of(c: World, w: Worker) -> int:
    """Free consumers."""
    return c.consumers - sum(x.phase in (KNOWN, RUNNING) for x in w.held)


def may_claim(c: World, w: Worker) -> bool:
    in_time = w.deadline > c.off or c.broken.no_watchdog or c.broken.late_start
    return w.status == UP and not w.mine and not w.confirm and in_time


def run_claim(mv: Moves, w: Worker, session: int, room: int) -> Claimed:
    return claim(mv.c, mv.server, mv.env.epoch, w.member, session, w.epoch, room, w.pool)


def exchange(mv: Moves, i: int, w: Worker) -> None:
    """Begin an exchange: settle all that ended, or claim, or pass a ring on."""
    c = mv.c
    if w.exchange.stage != NOTHING or w.confirm or w.mine:
        return
    ended = unsettled(w.held)
    room = room_of(c, w)
    if ended:
        begin_settle(mv, i, w, ended, room if may_claim(c, w) and room > 0 else -1)
        return
    if w.bell == RUNG and (room <= 0 or w.status == DRAINING) and not c.broken.full_eats:
        claimed = run_claim(mv, w, w.session, 0)
        passed = w._replace(bell=AWAKE, exchange=answer(claimed, mv.env.epoch, 0, ()))
        mv.add(("claim passes the ring on", w.member), i, passed, claimed.server, bad=claimed.bad)
    elif room > 0 and may_claim(c, w) and (not c.bell or w.bell in (AWAKE, RUNG)):
        begin_claim(mv, i, w, room)


def answer(
    claimed: Claimed, epoch: int, room: int, settled: tuple[tuple[int, int, int, str], ...]
) -> Exchange:
    withheld = claimed.withheld and not claimed.grants
    timer = claimed.server.quarantine > 0
    return Exchange(ANSWERED, 0, room, settled, claimed.status, epoch, claimed.grants, withheld, timer)


def begin_settle(mv: Moves, i: int, w: Worker, ended: tuple[Held, ...], room: int) -> None:
    c, env = mv.c, mv.env
    done = settle(c, mv.server, env.epoch, w.member, ended, room < 0, w.pool)
    stage = SETTLED if room >= 0 else ANSWERED
    sent = w._replace(exchange=Exchange(stage, 0, room, done.answers, OK, env.epoch, (), False, False))
    mv.add(("settle", w.member, done.answers), i, sent, done.server, bad=done.bad)
    if env.budget.net:
        late = Limbo("settle", w.member, w.session, w.epoch, 0, ended)
        mv.add(("settle in limbo", w.member), i, broken_off(c, w), env=mv.limbo(late))


def begin_claim(mv: Moves, i: int, w: Worker, room: int) -> None:
    c, env = mv.c, mv.env
    claimed = run_claim(mv, w, w.session, room)
    after, bad = mv.judged(claimed)
    bad = bad or unfair(mv, i, w, claimed, room)
    if c.bell or claimed.server != mv.server or claimed.status != OK or bad or after is not env:
        still = AWAKE if w.bell == RUNG else w.bell
        sent = w._replace(bell=still, exchange=answer(claimed, env.epoch, room, ()))
        mv.add(("claim", w.member, claimed.grants or claimed.status), i, sent, claimed.server, after, bad)
    if env.budget.net:
        late = Limbo("claim", w.member, w.session, w.epoch, room, ())
        mv.add(("claim in limbo", w.member), i, broken_off(c, w), env=mv.limbo(late))


def unfair(mv: Moves, i: int, w: Worker, claimed: Claimed, room: int) -> str | None:
    """A claim takes all that it may; and a ring does not go round in one worker for ever."""
    c, got = mv.c, len(claimed.grants)
    if claimed.status != OK or w.epoch != mv.env.epoch or got >= room:
        return None
    if got and could_claim(c, claimed.server, w.member, w.pool, rest=True):
        return "WORK a claim with room left took less than it could"
    if got or claimed.server.entries != mv.server.entries:
        return None
    if could_claim(c, mv.server, w.member, w.pool):
        return "WORK ready job, free limit, free consumer, nobody else hungry, and no grant"
    if c.bell and w.bell == RUNG and spins(mv, i, w, claimed):
        return "SPIN a worker takes its own ring again and again"
    return None


def spins(mv: Moves, i: int, w: Worker, claimed: Claimed) -> bool:
    """Woken by a ring, it gets nothing, rings again, nobody else could use the ring, and it will not pause first."""
    c = mv.c
    if claimed.server.rings[w.pool] <= mv.server.rings[w.pool] or (
        claimed.withheld and not c.broken.no_pause
    ):
        return False
    others = (x for k, x in enumerate(mv.workers) if k != i and x.status == UP and room_of(c, x) > 0)
    return not any(could_claim(c, claimed.server, x.member, x.pool) for x in others)


def broken_off(c: World, w: Worker, claim_in_flight: bool = True) -> Worker:
    """The loop's connection is lost: replies are gone, the next one is a new session that begins with ``mine``."""
    due = not c.broken.no_mine and (claim_in_flight or not c.broken.mine_lazy)
    return w._replace(
        exchange=NO_EXCHANGE, mine=w.mine or due, confirm=True, session=w.session + 1, bell=AWAKE
    )


def continue_exchange(mv: Moves, i: int, w: Worker) -> None:
    """The claim half, the reply, or the loss of it."""
    c, env, x = mv.c, mv.env, w.exchange
    if x.stage == NOTHING:
        return
    if x.stage == SETTLED:
        claimed = run_claim(mv, w, w.session, x.room)
        after, bad = mv.judged(claimed)
        bad = bad or unfair(mv, i, w, claimed, x.room)
        sent = w._replace(exchange=answer(claimed, env.epoch, x.room, x.settled))
        label = ("claim after settle", w.member, claimed.grants or claimed.status)
        mv.add(label, i, sent, claimed.server, after, bad)
        if env.budget.net:
            late = Limbo("claim", w.member, w.session, w.epoch, x.room, ())
            mv.add(("claim in limbo", w.member), i, broken_off(c, w), env=mv.limbo(late))
    elif x.stage == ANSWERED:
        reply(mv, i, w)
    else:
        confirmed(mv, i, w)
    if env.budget.net:
        mv.add(("connection lost", w.member, "with its replies"), i, broken_off(c, w), env=mv.spend("net"))
    elif w.mine and x.stage == ANSWERED:  # the server it came from is gone: so may be the reply
        mv.add(("reply lost", w.member, "with the server"), i, w._replace(exchange=NO_EXCHANGE))


def after_settle(c: World, w: Worker) -> tuple[tuple[Held, ...], bool]:
    """Replies match the delivery (epoch, entry, n), never the entry alone. EPOCH keeps the outcome for later."""
    held, refused = w.held, False
    for entry, n, epoch, result in w.exchange.settled:
        if result == EPOCH:
            refused = True
            continue
        found = [x for x in held if (x.id, x.n, x.epoch) == (entry, n, epoch) and x.phase in ENDED]
        held = tuple(x for x in held if x not in found)
        if c.broken.retry_in_two and result == OK:
            held += tuple(x._replace(phase=SECOND_HALF) for x in found if x.phase == AGAIN)
    return tuple(sorted(held)), refused


def reply(mv: Moves, i: int, w: Worker) -> None:
    """Settle answers, then the claim's: a grant counts only in the member's own epoch, and extends nothing (R7)."""
    c, b, x = mv.c, mv.c.broken, w.exchange
    if x.status == LOST:
        held, _ = after_settle(c, w)
        mv.add(("claim refused", w.member, "retires"), i, retired(c, w._replace(held=held)))
        return
    held, refused = after_settle(c, w)
    take: tuple[Held, ...] = ()
    if x.grants and (x.epoch == w.epoch or b.no_grant_epoch or b.late_start):
        take = tuple(Held(*grant, x.epoch, KNOWN) for grant in x.grants)
    other = x.status == EPOCH or refused or (bool(x.grants) and x.epoch > w.epoch and not b.no_grant_epoch)
    new = w._replace(
        held=tuple(sorted(held + take)),
        exchange=NO_EXCHANGE,
        confirm=w.confirm or other,
        mine=w.mine or (other and not b.no_mine and not b.mine_lazy),
        deadline=change.deadline(c, w) if b.claim_extends else w.deadline,
    )
    over = x.timer and not mv.server.quarantine
    if c.bell and w.bell == AWAKE and x.room > 0 and x.status == OK and room_of(c, new) > 0 and not over:
        new = new._replace(bell=PAUSED if x.withheld and not b.no_pause else BLOCKED)
    mv.add(("reply", w.member, x.grants or x.status), i, new)


def reconcile(mv: Moves, i: int, w: Worker) -> None:
    """Confirm first, then ``mine``; each an exchange of its own, so no claim, settle or reply is outstanding."""
    c, env, b = mv.c, mv.env, mv.c.broken
    if w.exchange.stage != NOTHING:
        return
    if w.confirm and not (w.mine and b.mine_early):
        if b.thread_confirms:
            return
        server, status, ids = confirm(c, mv.server, w.member, w.held)
        sent = w._replace(exchange=Exchange(CONFIRMING, 0, 0, (), status, env.epoch, ids, False, False))
        mv.add(("confirm", w.member, status, ids), i, sent, server)
    elif w.mine:
        known = tuple((x.id, x.n) for x in w.held)
        server, status, grants = mine(c, mv.server, w.member, w.session, known)
        if status == LOST:
            mv.add(("mine refused", w.member, "retires"), i, retired(c, w))
        else:
            x = Exchange(ANSWERED, 0, 0, (), OK, env.epoch, grants, False, False) if grants else NO_EXCHANGE
            mv.add(("mine", w.member, grants), i, w._replace(mine=False, exchange=x), server)
        if env.budget.net:
            late = Limbo("mine", w.member, w.session, w.epoch, 0, w.held)
            mv.add(("mine in limbo", w.member), i, w._replace(session=w.session + 1), env=mv.limbo(late))


def confirmed(mv: Moves, i: int, w: Worker) -> None:
    """The answer to the loop's confirm."""
    c, x = mv.c, w.exchange
    if x.status == LOST:
        mv.add(("confirm refused", w.member, "retires"), i, retired(c, w))
        return
    new = in_epoch(c, w._replace(exchange=NO_EXCHANGE), x.epoch, x.grants, x.age)
    mv.add(("confirm reply", w.member, x.grants), i, new)


def bell(mv: Moves, i: int, w: Worker) -> None:
    """A ring wakes one reader, which takes all that are unread. A worker without room stops reading; until it has, a ring may still reach it."""
    c, s = mv.c, mv.server
    if w.bell != BLOCKED:
        return
    if s.rings[w.pool]:
        rings = s.rings[: w.pool] + (0,) + s.rings[w.pool + 1 :]
        mv.add(("ring wakes", w.member), i, w._replace(bell=RUNG), s._replace(rings=rings))
    if w.exchange.stage == NOTHING and (room_of(c, w) <= 0 or w.status == DRAINING):
        mv.add(("stops reading the bell", w.member), i, w._replace(bell=AWAKE))


def second_half(mv: Moves, i: int, w: Worker) -> None:
    """Only where a retry is stored in two steps."""
    for k, x in enumerate(w.held):
        if x.phase == SECOND_HALF:
            server = mv.server._replace(delayed=mv.server.delayed | 1 << x.job)
            mv.add(("retry part 2", w.member), i, w._replace(held=w.held[:k] + w.held[k + 1 :]), server)
