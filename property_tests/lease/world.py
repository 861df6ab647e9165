"""Executes programs: lists of operations on one server, three workers and their bodies; every script call is checked.

An operation that cannot be done now does nothing, so that any part of a program is a program: that is what makes a found one
small. ``apply`` is all that the machine, the mutants' stored programs and the shrinking use.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import redis

from flowq._model import LanePolicy, Refusal, Status, Submission
from flowq.backends.redis import scripts

from . import checks
from . import member as shipped_member
from .body import TTL, Body, Request
from .ledger import Job, Ledger, Violation, uid_of
from .member import Member
from .server import PREFIX, Server, Snapshot
from .state import LANES, State

Op = tuple[Any, ...]
Program = list[Op]

MAX_CRASHES = 3
FAULTLESS = frozenset(
    {"submit", "turn", "end", "end_all", "tick", "renew", "quiet", "rounds", "control", "leave", "give_back"}
)
START = 1_700_000_000_000
NO_ID = "0" * 8


def _policy(limit: int | None, sync: bool = False) -> LanePolicy:
    return LanePolicy(limit=limit, max_crashes=MAX_CRASHES, sync=sync, failure_ttl_ms=600_000)


POOLS = {
    "p1": {"a": _policy(2), "b": _policy(1, sync=True), "u": _policy(None)},
    "p2": {"a": _policy(3), "u": _policy(None)},
}
SLOTS = ("p1", "p1", "p2")


class World:
    """One server's life. ``members`` is the module of the worker's rules, patched for a mutant."""

    def __init__(self, server: Server, members: ModuleType = shipped_member) -> None:
        self.server, self.rules = server, members
        self.log: Program = []
        self.book = Ledger()
        self.now = 0
        self.offset = 0
        self.furthest = 0
        self.back = 0
        """All steps back of the server's clock, added up."""
        self.last_jump = -1_000_000
        self.jobs = self.runs = self.replids = 0
        self.last_batch: tuple[list[Any], list[Submission]] | None = None
        self.limbo: list[tuple[Request, int]] = []
        self.late: dict[int, list[tuple[Request, list[Any]]]] = {}
        self.late_renewals: list[tuple[Member, Request, list[Any]]] = []
        self.snap: tuple[Snapshot, dict[str, Job]] | None = None
        self.lives = 0
        self.may = [TTL]
        """With which lease TTL an operator starts workers: the new value while the change is open, the old one until it is complete."""
        self.clean = True
        """No fault so far: then no ring may be lost."""
        self.stale = False
        """The keys were changed by something else than a script."""
        self.left: set[str] = set()
        server.flush()
        self.set_time()
        self.set_identity()
        self.state = server.look()
        self.workers: list[Member] = [self.worker(i) for i in range(len(SLOTS))]
        for w in self.workers:
            w.virgin_ok = True

    def worker(self, i: int) -> Member:
        self.lives += 1
        ttl = self.may[self.lives % len(self.may)]
        new: Member = self.rules.Member(
            f"w{i}x{self.lives}", SLOTS[i], POOLS[SLOTS[i]], ttl, self.now, self.started
        )
        self.late[i] = []
        return new

    def started(self, body: Body) -> None:
        self.book.events["bodies"] += 1
        body.bound = self.book.admitted[body.fence]
        self.book.bodies.append(body)

    # --- time and identity

    def set_time(self) -> None:
        self.server.set_time(START + self.now + self.offset)

    def set_identity(self) -> None:
        self.server.set_identity(f"run{self.runs}", f"repl{self.replids}")

    def pass_time(self, ms: int) -> None:
        """Time passes; every watchdog that can look does so at its deadline, not at the end of this step."""
        until = self.now + ms
        while self.now < until:
            awake = [w for w in self.workers if not w.paused]
            self.now = min([until, *(w.deadline for w in awake if w.id and self.now < w.deadline)])
            self.set_time()
            for w in awake:
                w.watch(self.now)

    def wake(self, me: Member) -> None:
        """A process goes on: its watchdog looks first. What should have ended meanwhile could not."""
        for body in me.bodies:
            body.excused |= me.paused and self.now >= me.deadline
        me.paused = False
        me.watch(self.now)

    # --- one script call, and everything it must keep

    def run(self, name: str, args: scripts.Args) -> Any:
        before = self.state
        try:
            reply, self.state = self.server.run(name, args)
        except redis.ResponseError as error:
            raise Violation("no script fails", f"{name}: {error}") from error
        self.deploy(before.clock, self.state.clock)
        for gone in set(before.members) - set(self.state.members) - self.left:
            if name not in ("leave", "join"):
                self.book.events["expired"] += before.members[gone] <= self.state.l
        return reply

    def deploy(self, before: dict[str, str], after: dict[str, str]) -> None:
        """What the operator sees of a change of the lease TTL, and which workers he starts from then on (LEASE R18)."""
        if not after.get("ttl"):
            return
        was, change = before.get("change", "").split(), after.get("change", "").split()
        if was and not change and after["ttl"] == was[1]:
            self.book.events["TTL changed"] += 1
            self.may = [int(was[1])]
        elif "open" in after:
            self.book.events["TTL change open"] += "open" not in before
            self.may = sorted({*self.may, int(change[1])})
        elif len(self.may) > 1:  # the server has forgotten that it was open
            self.may = [int(change[0] if change else after["ttl"])]

    def check(self) -> None:
        for uid in checks.no_loss(self.now, self.state, self.book):
            job = self.book.jobs[uid]
            record = self.server.call(("GET", f"{PREFIX}r:{job.id}"))[0]
            self.book.vanished(uid, job, record, self.state, MAX_CRASHES)
        for check in checks.ALWAYS:
            check(self.now, self.state, self.book)

    def execute(self, i: int, request: Request, calls: int = 2) -> list[Any]:
        """The server executes a worker's request (or its first call only)."""
        replies = []
        for name, args in request.calls[:calls]:
            before = self.state
            reply = self.run(name, args)
            replies.append(reply)
            getattr(self, "after_" + name, self.after_any)(before, request, reply, i)
            self.check()
        return replies

    def after_any(self, before: State, request: Request, reply: Any, i: int) -> None:
        if isinstance(reply[0], bytes) and reply[0] in (b"EPOCH", b"LOST", b"STALE"):
            self.book.events[reply[0].decode()] += 1

    def after_join(self, before: State, request: Request, reply: Any, i: int) -> None:
        if reply[0] in (b"TTL", b"WAIT"):
            self.book.events["join refused"] += 1
            return
        self.book.events["joined"] += 1
        for w in self.workers:
            w.virgin_ok = False
        old = scripts.read_join(reply, request.new_id, request.listed, TTL)
        self.book.events["kept"] += len(old.kept)
        for former in str(request.calls[0][1][5]).split():
            self.owns_nothing(former, "its next life joined")

    def owns_nothing(self, member: str, why: str) -> None:
        for name, lane in self.state.lanes.items():
            if left := [e for e, (owner, _) in lane.pending.items() if owner == member != ""]:
                raise Violation("hand-back", f"{member} still owns {left} in {name} after {why}")

    def after_leave(self, before: State, request: Request, reply: Any, i: int) -> None:
        member = str(request.calls[0][1][0])
        self.left.add(member)
        self.owns_nothing(member, "it left")

    def after_mine(self, before: State, request: Request, reply: Any, i: int) -> None:
        self.after_any(before, request, reply, i)
        if reply[0] != b"OK":
            return
        self.book.events["mine handed back"] += reply[1]
        known = {(d.lane, d.entry) for d in request.listed}
        for name, lane in self.state.lanes.items():
            for entry, (owner, _) in lane.pending.items():
                if owner == request.member and (name, entry) not in known:
                    raise Violation(
                        "hand-back", f"{owner} owns {name} {entry} after `mine` and does not know it"
                    )

    def after_confirm(self, before: State, request: Request, reply: Any, i: int) -> None:
        self.after_any(before, request, reply, i)
        self.book.events["confirms"] += reply[0] == b"OK" and len(reply[2])

    def after_settle(self, before: State, request: Request, reply: Any, i: int) -> None:
        self.after_any(before, request, reply, i)
        settled = scripts.read_settle(reply, request.ended)
        if settled.status is not Status.OK:
            return
        member = str(request.calls[0][1][0])
        refused: dict[int, Refusal] = {d.fence: why for d, why in settled.refused}
        for e in request.ended:
            if why := refused.get(e.delivery.fence):
                self.book.refused(before, member, e, why.value)
            else:
                self.book.settled(before, member, str(request.calls[0][1][1]), e)

    def after_claim(self, before: State, request: Request, reply: Any, i: int) -> None:
        self.after_any(before, request, reply, i)
        self.book.adopted(before, self.state)
        claimed = scripts.read_claim(reply, self.now / 1000)
        if claimed.status is not Status.OK:
            return
        for grant in claimed.grants:
            self.book.granted(before, grant, self.state)
            if grant.crashes >= MAX_CRASHES:
                raise Violation(
                    "dead letter", f"{uid_of(grant.raw)} is delivered after {grant.crashes} crashes"
                )
            if grant.lane in claimed.limits and self.state.l < self.state.q:
                raise Violation("quarantine", f"{grant.lane} {grant.entry} granted in it")
        if not self.state.live(request.member):
            raise Violation("adoption", f"{request.member} is not live and may claim")
        args = request.calls[-1][1]
        got = {lane: sum(g.lane == lane for g in claimed.grants) for lane in LANES}
        room, threads = int(args[4]) - sum(got.values()), int(args[5]) - got["b"]
        mine, servers = str(args[2]), {before.clock.get("ep"), self.state.clock.get("ep")}
        if servers != {mine}:
            raise Violation("epoch", f"{request.member} of epoch {mine} may claim in {servers}")
        fresh = {lane: sum(g.lane == lane and g.n == 1 for g in claimed.grants) for lane in LANES}
        if unfair := checks.fair_share(self.state, request.member, fresh):
            raise Violation("fair share", unfair)
        who = self.workers[i]
        if who.id == request.member and (idle := checks.idle_work(self.state, who, room, threads, got)):
            raise Violation("work conservation", f"{request.member} has room {room} after its claim: {idle}")

    # --- operations

    def apply(self, op: Op) -> bool:
        """Do one operation and check everything; False: it could not be done and changed nothing."""
        from .operations import OPERATIONS

        self.log.append(op)
        self.clean &= op[0] in FAULTLESS and not (op[0] == "turn" and op[2:3] not in ((), ("ok",)))
        done = OPERATIONS[op[0]](self, *op[1:])
        if self.stale:
            self.state = self.server.look()
            self.deploy({}, self.state.clock)
            self.stale = False
        if done:
            self.check()
        return done

    def replace_outdated(self) -> None:
        """Whatever still runs with a TTL that the operator starts no more, cut off all through the change, is ended and started anew."""
        for i, w in enumerate(self.workers):
            if w.ttl not in self.may:
                self.killed(i)

    def turn(self, i: int, fate: str = "ok", extra: int = 0) -> bool:
        """The loop of worker i sends what it has to send next."""
        w = self.workers[i]
        if w.paused:
            return False
        request = w.request(self.now, extra)
        if request is None:
            return False
        self.send(i, request, "lost_request" if w.cut else fate)
        return True

    def send(self, i: int, request: Request, fate: str) -> None:
        """Carry a request of the loop, with what befalls it on the way."""
        w = self.workers[i]
        if fate not in ("ok", "dup"):
            self.book.events[fate] += 1
        match fate:
            case "ok" | "dup":
                replies = self.execute(i, request)
                if fate == "dup" and request.kind in ("exchange", "mine", "confirm"):
                    self.execute(i, request, 1 if request.ended else 0 if request.kind == "exchange" else 1)
                w.reply(request, replies, self.now)
            case "lost_request":
                w.broken()
            case "lost_between":
                self.execute(i, request, 1 if request.ended else 0)
                w.broken()
            case "lost_reply":
                self.execute(i, request)
                w.broken()
            case "limbo":
                w.broken()
                self.limbo.append((request, i))
            case "late":
                self.late[i].append((request, self.execute(i, request)))
            case _:
                raise ValueError(fate)
        if w.refused:
            self.killed(i, rest=1000)

    def killed(self, i: int, rest: int = 0) -> None:
        """The process of worker i is gone, its bodies with it; a fresh one takes its place."""
        for held in self.workers[i].known.values():
            if held.body is not None:
                held.body.stops = self.now
        for body in self.workers[i].bodies:
            body.stops = self.now
        self.workers[i] = self.worker(i)
        self.workers[i].rests_until = self.now + rest if rest else 0

    def renew(self, i: int, fate: str = "ok") -> bool:
        w = self.workers[i]
        if not w.id:
            return False
        request = w.renewal(self.now)
        if fate == "ok" and not w.cut:
            w.renewal_reply(request, self.execute(i, request), self.now)
        elif fate == "lost_reply":
            self.execute(i, request)
        elif fate == "late" and not w.cut:
            self.late_renewals.append((w, request, self.execute(i, request)))
        elif fate == "limbo":
            self.limbo.append((request, i))
        return True

    def forgotten(self, what: str) -> None:
        """The server lost something. That takes a moment: no two things happen in one millisecond, one before and one after."""
        self.pass_time(5)
        self.stale = True
        self.book.lost.add(what)
        self.book.events["server losses"] += 1
        if what in ("failover", "flush", "clock") and self.offset < self.furthest:
            self.book.set_back = True

    def disconnect(self) -> None:
        """Every connection is gone, and with it every request that had not been executed. A reply may lie in a buffer."""
        self.limbo.clear()
        for i, w in enumerate(self.workers):
            if w.waiting is not None and not self.late[i]:
                w.broken()
            else:
                w.reconnect()

    def healthy(self) -> list[int]:
        return [i for i, w in enumerate(self.workers) if not w.paused and not w.cut]
