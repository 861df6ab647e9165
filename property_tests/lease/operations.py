"""The operations of a program, by name. Each takes the world and small numbers; False: not possible now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowq._model import Submission
from flowq.backends.redis import scripts

from . import checks
from .ledger import Job, Violation, uid_of
from .state import LANES

if TYPE_CHECKING:
    from .world import World

Operation = Callable[..., bool]


# --- producers and operators


def submit(w: World, lane: str, n: int, delay: int = 0, key: int = 0, fate: str = "ok") -> bool:
    """A batch of n jobs; fate "resent": the reply was lost and the producer sends it again; "lost": the request was, first."""
    batch, uids = [], []
    for _ in range(n):
        w.jobs += 1
        uid = f"j{w.jobs}"
        name = f"k{key}" if key else ""
        envelope = f'{{"v":1,"x":"{uid}"' + (f',"key":"{name}"' if name else "") + "}"
        batch.append(Submission(lane, envelope.encode(), delay_ms=delay, key=name))
        uids.append(uid)
    args = scripts.submit(f"batch{w.jobs}", 120_000, batch)
    reply = w.run("submit", args)
    receipts = scripts.read_submit(reply, batch)
    for uid, one, receipt in zip(uids, batch, receipts, strict=True):
        if receipt.created:
            w.book.jobs[uid] = Job(lane, receipt.job_id, one.key)
        else:
            first = [j for j in w.book.jobs.values() if j.id == receipt.job_id and j.state == "open"]
            if not first or first[0].key != one.key:
                raise Violation("idempotency key", f"{uid} was refused for {receipt.job_id}, which is not open")
    w.check()
    if fate == "resent":
        again = scripts.read_submit(w.run("submit", args), batch)
        if again != receipts and [r.job_id for r in again] != [r.job_id for r in receipts]:
            raise Violation("submit once", f"{[r.job_id for r in again]} for {[r.job_id for r in receipts]}")
        w.check()
    return True


def control(w: World, lane: str, what: str, value: int = 0) -> bool:
    w.run("control", [lane, what, value])
    return True


def cancel(w: World, k: int) -> bool:
    """Cancel the k-th open job."""
    jobs = [(uid, j) for uid, j in w.book.jobs.items() if j.state == "open"]
    if not jobs:
        return False
    uid, job = jobs[k % len(jobs)]
    entry = next((e for e, text in w.state.lanes[job.lane].entries.items() if uid_of(text) == uid), None)
    owner = w.state.lanes[job.lane].pending.get(entry, ("-", 0))[0] if entry else "-"
    answer = w.run("cancel", [job.id, "asked", '{"status":"cancelled","reason":"asked"}', 600_000]).decode()
    if answer != ("requested" if owner != "-" else "removed"):
        raise Violation("cancel", f"{uid} at {owner!r}: {answer}")
    if answer == "removed":
        job.state = "cancelled"
    job.cancel = True
    w.book.events["cancel " + answer] += 1
    return True


def promote(w: World) -> bool:
    w.run("promote", [])
    return True


# --- workers


def end(w: World, i: int, k: int, how: str) -> bool:
    """The k-th running body of worker i ends."""
    me = w.workers[i]
    running = [] if me.paused else me.running(w.now)
    if not running:
        return False
    me.end(running[k % len(running)].delivery.fence, how, w.now)
    return True


def end_all(w: World, i: int, how: str) -> bool:
    """All of its running bodies end at once: one settle for many."""
    me = w.workers[i]
    running = [] if me.paused else me.running(w.now)
    for held in running:
        me.end(held.delivery.fence, how, w.now)
    return bool(running)


def give_back(w: World, i: int) -> bool:
    """What worker i knows and has not started goes back (prefetched entries, at a shutdown)."""
    me = w.workers[i]
    waiting = [f for f, h in me.known.items() if h.body is None and h.ended is None]
    for fence in waiting:
        me.end(fence, "free", w.now)
    return bool(waiting)


def deliver(w: World, i: int) -> bool:
    """A reply that was on its way arrives."""
    if not w.late[i] or w.workers[i].paused:
        return False
    request, replies = w.late[i].pop(0)
    w.workers[i].reply(request, replies, w.now)
    return True


def renewed(w: World) -> bool:
    """A renewal's reply that was on its way arrives."""
    if not w.late_renewals or w.late_renewals[0][0].paused:
        return False
    me, request, replies = w.late_renewals.pop(0)
    me.renewal_reply(request, replies, w.now)
    return True


def give_up(w: World, i: int) -> bool:
    """Worker i waits no longer for a reply and takes a new connection."""
    if w.workers[i].waiting is None or w.workers[i].paused:
        return False
    w.workers[i].broken()
    return True


def limbo(w: World) -> bool:
    """A request that was given up long ago reaches the server after all."""
    if not w.limbo:
        return False
    request, i = w.limbo.pop(0)
    w.book.events["limbo executed"] += 1
    w.execute(i, request)
    return True


def leave(w: World, i: int, fate: str = "ok") -> bool:
    me = w.workers[i]
    request = None if me.paused or me.cut else me.leave(w.now)
    if request is None:
        return False
    w.book.events["left"] += 1
    w.send(i, request, fate)
    return True


def crash(w: World, i: int) -> bool:
    """SIGKILL: bodies end at once; a fresh process takes the slot."""
    for held in w.workers[i].known.values():
        if held.body is not None:
            held.body.stops = w.now
    for body in w.workers[i].bodies:
        body.stops = w.now
    w.workers[i] = w.worker(i)
    w.book.events["crashes"] += 1
    return True


def pause(w: World, i: int) -> bool:
    """SIGSTOP."""
    w.workers[i].paused = True
    return True


def resume(w: World, i: int, first: str = "") -> bool:
    """SIGCONT. ``first``: what its threads had in hand leaves before its watchdog looks: a settle, a claim or a renewal."""
    me = w.workers[i]
    if not me.paused:
        return False
    zombie = None
    if first == "renew":
        w.renew(i, "lost_reply")
    elif first == "exchange" and me.id and me.greeted and me.confirmed and me.reconciled and me.waiting is None:
        for held in me.running(w.now)[:1]:
            me.end(held.delivery.fence, "ok", w.now)
        zombie = me._exchange(w.now, 0)
        w.late[i].append((zombie, w.execute(i, zombie)))
    me.paused = False
    me.watch(w.now)
    w.book.events["resumed"] += 1
    return True


def cut(w: World, i: int) -> bool:
    """A partition: nothing of worker i gets through."""
    w.workers[i].cut = True
    return True


def heal(w: World, i: int) -> bool:
    was, w.workers[i].cut = w.workers[i].cut, False
    return was


# --- time and the server


def tick(w: World, ms: int) -> bool:
    """Time passes; the keepers of all workers that can do so renew."""
    while ms > 0:
        step = min(ms, 800)
        ms -= step
        w.pass_time(step)
        for i in w.healthy():
            if w.workers[i].id and w.now - w.workers[i].renewed >= w.rules.RENEW_EVERY:
                w.renew(i)
    return True


def clock(w: World, ms: int) -> bool:
    """The server's clock is stepped. Forward at most once per lease: that is what the margin is made for."""
    if ms > 0 and w.now - w.last_jump <= w.rules.TTL:
        return False
    if ms > 0:
        w.last_jump = w.now
    w.furthest = max(w.furthest, w.offset)
    w.offset += ms
    w.back += max(0, -ms)
    if ms < 0 and w.book.lost & {"failover", "flush", "clock"}:
        w.book.set_back = True
    w.set_time()
    w.book.events["clock steps"] += 1
    return True


def snap(w: World) -> bool:
    """A replica has got this far."""
    w.snap = (w.server.snapshot(), w.book.copy_jobs())
    return True


def failover(w: World, same_run: bool = False) -> bool:
    """The replica is promoted: everything since is lost, those jobs' submissions too. ``same_run``: only its replid is new."""
    if w.snap is None:
        return False
    w.server.restore(w.snap[0])
    w.book.go_back(w.snap[1])
    w.book.used.clear()
    w.forgotten("failover")
    w.runs += not same_run
    w.replids += 1
    w.server.set_identity(f"run{w.runs}", f"repl{w.replids}", f"repl{w.replids - 1}")
    w.disconnect()
    return True


def restart(w: World) -> bool:
    """The server restarts and has lost nothing."""
    w.runs += 1
    w.replids += 1
    w.set_identity()
    w.disconnect()
    w.book.events["server losses"] += 1
    return True


def backlog_made(w: World) -> bool:
    """A replica was attached or a backup taken: the replid is new, replid2 stays zero. Nothing was forgotten."""
    before = w.state.clock
    known = before.get("run") == f"run{w.runs}" and before.get("repl") == f"repl{w.replids}" and w.state.sentinel
    w.replids += 1
    w.set_identity()
    w.run("hello", ["backup"])
    if known and w.state.clock["ep"] != before["ep"]:
        raise Violation("no false alarm", "a new epoch began because a backup was taken")
    return True


def flush(w: World) -> bool:
    """FLUSHALL."""
    w.server.flush()
    w.book.jobs.clear()
    w.book.used.clear()
    w.forgotten("flush")
    return True


def lose(w: World, what: str) -> bool:
    """DEL members, DEL clock."""
    w.server.call(("DEL", f"flowq:{{t}}:{what}"))
    w.forgotten(what)
    return True


def destroy(w: World, lane: str) -> bool:
    """XGROUP DESTROY."""
    if not w.state.lanes[lane].group:
        return False
    w.server.call(("XGROUP", "DESTROY", f"flowq:{{t}}:s:{lane}", "flowq"))
    w.forgotten("group")
    return True


# --- rounds: what a fleet that is left alone does


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
    held, dead = s.holders(lane)
    work = s.lanes[lane].backlog > 0 and (limit is None or s.lanes[lane].used < limit)
    if not work:
        return
    for i in w.healthy():
        me = w.workers[i]
        polled = me.id and me.confirmed and me.reconciled and me.waiting is None
        if lane in me.lanes and polled and me.room(w.now) > 0:
            if lane != "b" or me.room(w.now, "b") > 0:
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
            if i is None:
                no_leak(w)
                if w.clean:
                    for lane in LANES:
                        idle_token(w, lane, "lost ring")
                return True
            waiting.remove(i)
            waiting.append(i)
        w.turn(i)
    members = {m.id for m in (w.workers[i] for i in w.healthy())}
    if any(set(lane.hungry) - members for lane in w.state.lanes.values()):
        return True  # one that died hungry caps the others for 1.5 s, and time stands still here
    raise Violation("rings", f"{turns} claims for {w.book.events['bodies'] - granted} jobs, and the bell still rings")


def _owes(w: World, i: int) -> bool:
    me = w.workers[i]
    if me.waiting is not None or (not me.id and any(b.limited and b.runs(w.now) for b in me.bodies)):
        return False
    settled = me.greeted and me.confirmed and me.reconciled and bool(me.id)
    return not settled or any(h.ended for h in me.known.values()) or (not me.short and me.room(w.now) > 0)


def _rung(w: World, i: int) -> bool:
    me = w.workers[i]
    if not me.id or me.waiting is not None or me.room(w.now) <= 0 or me.pool not in w.state.pools:
        return False
    bell = f"flowq:{{t}}:bell:{me.pool}"
    read = ("XREADGROUP", "GROUP", "flowq", "w", "COUNT", 8, "NOACK", "STREAMS", bell, ">")
    return bool(w.server.call(read)[0])


OPERATIONS: dict[str, Operation] = {
    f.__name__: f
    for f in (
        *(submit, control, cancel, promote, end, end_all, give_back, deliver, renewed, give_up, limbo, leave, crash, pause, resume, cut, heal),
        *(tick, clock, snap, failover, restart, backlog_made, flush, lose, destroy, rounds, quiet),
    )
}


def _turn(w: World, i: int, fate: str = "ok", extra: int = 0) -> bool:
    return w.turn(i, fate, extra)


def _renew(w: World, i: int, fate: str = "ok") -> bool:
    return not w.workers[i].paused and w.renew(i, fate)


OPERATIONS["turn"] = _turn
OPERATIONS["renew"] = _renew


def drain(w: World) -> None:
    """The faults are over: every job ends, every worker leaves, and nothing stays behind."""
    for i, me in enumerate(w.workers):
        me.paused = me.cut = False
        w.late[i].clear()
        if me.waiting is not None:
            me.broken()
        me.watch(w.now)
    w.limbo.clear()
    for lane in LANES:
        control(w, lane, "reset")
        control(w, lane, "resume")
    if "clock" in w.book.lost and w.back:
        # the waiting clock began again at TIME and had been ahead of it by every step back: delays are late by that much
        tick(w, w.rules.TTL + 800)
        clock(w, w.back)
    for step in range(50):
        tick(w, 1600)
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
        raise Violation("drains", f"still open {open_jobs}, dead {w.state.expired}, members {w.state.members}")
    for i in w.healthy():
        w.turn(i)
        if not leave(w, i):
            raise Violation("drains", f"{w.workers[i].id} cannot leave")
    checks.at_rest(w.state)
