"""The operations of a program, by name. Each takes the world and small numbers; False: not possible now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowq._model import Submission
from flowq.backends.redis import scripts

from .faults import backlog_made, clock, destroy, failover, flush, lose, recover, restart, snap, tick
from .ledger import Job, Violation, uid_of
from .rounds import quiet, rounds

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
                raise Violation(
                    "idempotency key", f"{uid} was refused for {receipt.job_id}, which is not open"
                )
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


def lease_ttl(w: World, ms: int) -> bool:
    """The operator changes the fleet's lease TTL, or takes a change back that is under way."""
    w.jobs += 1
    w.run("lease_ttl", [ms, f"op{w.jobs}"])
    w.check()
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


def status(w: World, k: int) -> bool:
    """Where is the k-th job, of all? What the server says must be where it is."""
    if not w.book.jobs:
        return False
    uid, job = list(w.book.jobs.items())[k % len(w.book.jobs)]
    lane = w.state.lanes[job.lane]
    entry = next((e for e, text in lane.entries.items() if uid_of(text) == uid), None)
    owned = entry in lane.pending and lane.pending[entry][0] != "-"
    answer = w.run("status", [job.id]).decode()
    if job.state != "open":
        right = answer == "" or answer.startswith("{")
    elif entry is None:
        right = answer == "delayed"
    elif not owned:
        right = answer == "ready"
    else:
        right = answer == ("cancelling" if f"{job.lane}|{entry}" in w.state.cancels else "running")
    if not right:
        raise Violation("status", f"{uid} ({job.id}), {job.state}, entry {entry}: {answer!r}")
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
    if w.workers[i].refused:
        w.killed(i, rest=1000)
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
    w.killed(i)
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
    elif (
        first == "exchange" and me.id and me.greeted and me.confirmed and me.reconciled and me.waiting is None
    ):
        for held in me.running(w.now)[:1]:
            me.end(held.delivery.fence, "ok", w.now)
        zombie = me._exchange(w.now, 0)
        w.late[i].append((zombie, w.execute(i, zombie)))
    w.wake(me)
    w.book.events["resumed"] += 1
    return True


def cut(w: World, i: int) -> bool:
    """A partition: nothing of worker i gets through."""
    w.workers[i].cut = True
    return True


def heal(w: World, i: int) -> bool:
    was, w.workers[i].cut = w.workers[i].cut, False
    return was


OPERATIONS: dict[str, Operation] = {
    f.__name__: f
    for f in (
        *(
            submit,
            control,
            lease_ttl,
            cancel,
            status,
            promote,
            end,
            end_all,
            give_back,
            deliver,
            renewed,
            give_up,
            limbo,
            leave,
            crash,
            pause,
            resume,
            cut,
            heal,
        ),
        *(tick, clock, snap, failover, recover, restart, backlog_made, flush, lose, destroy, rounds, quiet),
    )
}


def _turn(w: World, i: int, fate: str = "ok", extra: int = 0) -> bool:
    return w.turn(i, fate, extra)


def _renew(w: World, i: int, fate: str = "ok") -> bool:
    return not w.workers[i].paused and w.renew(i, fate)


OPERATIONS["turn"] = _turn
OPERATIONS["renew"] = _renew
