"""What a fleet that is left alone does: poll, act on rings, and in the end drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import checks
from .body import TTL
from .faults import clock, tick
from .ledger import Violation
from .state import LANES

if TYPE_CHECKING:
    from .world import World


def rounds(w: World) -> bool:
    """All healthy workers poll thrice, 0.8 s apart: then no token is idle while somebody has room and work waits."""
    for _ in range(3):
        tick(w, 800)
        for i in w.healthy():
            polls(w, i)
    no_leak(w)
    for lane in LANES:
        idle_token(w, lane, "idle token")
    return True


def polls(w: World, i: int) -> None:
    """A worker does what it must before it can claim, then claims until a claim grants nothing."""
    for _ in range(12):
        me = w.workers[i]
        ready = me.greeted and me.confirmed and me.reconciled and bool(me.id)
        held = len(me.known)
        if not w.turn(i) or (ready and len(w.workers[i].known) <= held):
            break


def no_leak(w: World) -> None:
    """At rest each worker knows what it owns: an entry of a live member that does not know it is nobody's for ever."""
    for i in w.healthy():
        me = w.workers[i]
        if not me.id or not me.greeted or not me.confirmed or not me.reconciled or me.waiting is not None:
            continue
        known = {(h.delivery.lane, h.delivery.entry) for h in me.known.values()}
        for name, lane in w.state.lanes.items():
            for entry, (owner, _) in lane.pending.items():
                if owner == me.id and (name, entry) not in known and me.id in w.state.members:
                    raise Violation("leak", f"{owner} owns {name} {entry} and does not know it")


def idle_token(w: World, lane: str, promise: str) -> None:
    """Work waits, a token is free, and a worker that could take it does not."""
    s, limit = w.state, w.state.limits.get(lane)
    if limit is not None and s.l < s.q:
        return
    holders = [me for me in w.workers if any(h.delivery.lane == lane for h in me.known.values())]
    if not s.lanes[lane].group and (holders or set(s.members) - {me.id for me in w.workers}):
        return  # a destroyed group is noticed by whoever held something, when it ends or is buried
    held, dead = s.holders(lane)
    work = s.lanes[lane].backlog > 0 and (limit is None or s.lanes[lane].used < limit)
    if not work:
        return
    for i in w.healthy():
        me = w.workers[i]
        polled = me.id and me.confirmed and me.reconciled and me.waiting is None
        room = me.room(w.now) if lane != "b" else min(me.room(w.now), me.room(w.now, "b"))
        if lane in me.lanes and polled and room > 0:
            raise Violation(promise, f"{lane}: {held}+{dead} of {limit} in flight, {me.id} has room")


def quiet(w: World) -> bool:
    """Nobody polls: workers act on what they owe and on rings, until all is quiet. Rings must not chase each other."""
    turns, granted = 0, w.book.events["bodies"]
    waiting = w.healthy()
    while turns <= 25 + 4 * (w.book.events["bodies"] - granted):
        turns += 1
        i = next((i for i in w.healthy() if _owes(w, i)), None)
        if i is None:
            i = next((i for i in waiting if _rung(w, i)), None)
            if i is None and _listens_again(w):
                continue
            if i is None:
                no_leak(w)
                if w.clean:
                    for lane in LANES:
                        idle_token(w, lane, "lost ring")
                return True
            waiting.remove(i)
            waiting.append(i)
        w.turn(i)
    able = {me.id for me in (w.workers[i] for i in w.healthy()) if me.waiting is None}
    if any(set(lane.hungry) - able for lane in w.state.lanes.values()):
        return (
            True  # one that was hungry and cannot act caps the others for 1.5 s, and time stands still here
        )
    raise Violation(
        "rings", f"{turns} claims for {w.book.events['bodies'] - granted} jobs, and the bell still rings"
    )


def _owes(w: World, i: int) -> bool:
    me = w.workers[i]
    if me.waiting is not None or (not me.id and any(b.limited and b.runs(w.now) for b in me.bodies)):
        return False
    if not me.id and (me.waits_for or w.now < me.rests_until):
        return False  # it may not join yet, and tries again later
    settled = me.greeted and me.confirmed and me.reconciled and bool(me.id)
    return not settled or any(h.ended for h in me.known.values()) or (not me.short and me.room(w.now) > 0)


def _listens_again(w: World) -> bool:
    """Nobody else was rung: 20 ms are over for those who had left work to others."""
    patient = [w.workers[i] for i in w.healthy() if w.workers[i].withheld]
    for me in patient:
        me.withheld = False
    if patient:
        w.pass_time(20)
    return bool(patient)


def _rung(w: World, i: int) -> bool:
    me = w.workers[i]
    if not me.id or me.waiting is not None or me.room(w.now) <= 0 or me.pool not in w.state.pools:
        return False
    if me.withheld:
        return False
    bell = f"flowq:{{t}}:bell:{me.pool}"
    read = ("XREADGROUP", "GROUP", "flowq", "w", "COUNT", 8, "NOACK", "STREAMS", bell, ">")
    return bool(w.server.call(read)[0])


def drain(w: World) -> None:
    """The faults are over: every job ends, every worker leaves, and nothing stays behind."""
    for i, me in enumerate(w.workers):
        me.cut = False
        w.late[i].clear()
        if me.waiting is not None:
            me.broken()
        w.wake(me)
    w.limbo.clear()
    for lane in LANES:
        # only where it is needed: it marks the lane, and would find what nobody else had found
        if lane in w.state.override:
            w.run("control", [lane, "reset", 0])
        if lane in w.state.paused:
            w.run("control", [lane, "resume", 0])
    if "clock" in w.book.lost and w.back:
        # the waiting clock began again at TIME and had been ahead of it by every step back: delays are late by that much
        tick(w, TTL + 800)
        clock(w, w.back)
    for step in range(50):
        tick(w, 1600)
        if step == 0:
            w.replace_outdated()
        for i in w.healthy():
            for _ in range(4):
                for held in w.workers[i].running(w.now):
                    w.workers[i].end(held.delivery.fence, "ok", w.now)
                w.turn(i)
        over = all(j.state != "open" for j in w.book.jobs.values()) and not w.state.expired
        if over and step >= 1 and set(w.state.members) == {m.id for m in w.workers}:
            break
    else:
        open_jobs = [f"{uid} {j.id}" for uid, j in w.book.jobs.items() if j.state == "open"]
        raise Violation(
            "drains", f"still open {open_jobs}, dead {w.state.expired}, members {w.state.members}"
        )
    for i in w.healthy():
        w.turn(i)
        request = w.workers[i].leave(w.now)
        if request is None:
            raise Violation("drains", f"{w.workers[i].id} cannot leave")
        w.send(i, request, "ok")
    checks.at_rest(w.state)
