"""What time and the server do to a program: the operations that no worker sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .body import TTL
from .ledger import Violation

if TYPE_CHECKING:
    from .ledger import Job
    from .server import Snapshot
    from .world import World


def tick(w: World, ms: int) -> bool:
    """Time passes; the keepers of all workers that can do so renew."""
    while ms > 0:
        step = min(ms, 800)
        for me in w.workers:
            me.withheld = False
        ms -= step
        w.pass_time(step)
        for i in w.healthy():
            if w.workers[i].id and w.now - w.workers[i].renewed >= w.workers[i].times.renew_every:
                w.renew(i)
    return True


def clock(w: World, ms: int) -> bool:
    """The server's clock is stepped. Forward at most once per lease: that is what the margin is made for."""
    if ms > 0 and w.now - w.last_jump <= TTL:
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


def _go_back(w: World, snap: tuple[Snapshot, dict[str, Job]]) -> None:
    # old data can deceive a worker that was cut off all through a change of the TTL, if it is the first to come: an exception of P2
    w.replace_outdated()
    w.server.restore(snap[0])
    w.book.go_back(snap[1])
    w.forgotten("failover")


def failover(w: World, same_run: bool = False) -> bool:
    """The replica is promoted: everything since is lost, those jobs' submissions too. ``same_run``: only its replid is new."""
    if w.snap is None:
        return False
    _go_back(w, w.snap)
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


def recover(w: World) -> bool:
    """The server dies and comes back with what had reached its disk: a tail is lost, its replid may be the same as before."""
    if w.snap is None:
        return False
    _go_back(w, w.snap)
    w.runs += 1
    w.set_identity()
    w.disconnect()
    return True


def backlog_made(w: World) -> bool:
    """A replica was attached or a backup taken: the replid is new, replid2 stays zero. Nothing was forgotten."""
    before = w.state.clock
    known = (
        before.get("run") == f"run{w.runs}" and before.get("repl") == f"repl{w.replids}" and w.state.sentinel
    )
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
