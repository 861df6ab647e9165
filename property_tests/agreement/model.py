"""The reference: what an outsider may know of an app, as plainly as it can be said.

No streams, no consumer groups, no indices: a list of jobs, each in one place, and everything else is asked of that list. Rules by
their numbers in docs/lease-model.md.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from typing import Any

import attrs

from .words import FOR_EVER, LANES, POOLS, START, SYNC, TTL, End, Job, Reply, Room

NOBODY = "-"
HUNGRY = 1_500


@attrs.define
class Work:
    """A job. ``place``: ready, held, delayed or over. A job enters a stream under a new ``entry`` each time."""

    lane: str
    key: str
    place: str
    entry: int = 0
    moved: bool = False
    due: int = 0
    owner: str = ""
    n: int = 0
    crashes: int = 0
    cancel: str | None = None
    record: tuple[str, str, int] | None = None
    """Status, what it says beside, TTL; None: none is kept."""


@attrs.define
class Member:
    pool: int
    expiry: int
    session: int = 0
    live: bool = True
    suspect: str = ""


@attrs.define
class Facts:
    """What is lost with the server."""

    time: int = START
    lease: int = 0
    waiting: int = 0
    step: int = TTL // 6
    quarantine_end: int = 0
    epoch: int = 0
    jobs: dict[str, Work] = attrs.Factory(dict[str, Work])
    members: dict[str, Member] = attrs.Factory(dict[str, Member])
    limits: dict[str, int] = attrs.Factory(dict[str, int])
    override: dict[str, int] = attrs.Factory(dict[str, int])
    paused: set[str] = attrs.Factory(set[str])
    hungry: dict[tuple[str, str], int] = attrs.Factory(dict[tuple[str, str], int])
    """Lane and member → lease time of the mark."""
    dead: list[tuple[str, str, str]] = attrs.Factory(list[tuple[str, str, str]])
    batches: dict[int, Reply] = attrs.Factory(dict[int, Reply])
    stats: dict[str, Counter[str]] = attrs.Factory(lambda: defaultdict[str, Counter[str]](Counter))


def part(whole: int, among: int) -> int:
    """Rounded up."""
    return -(-whole // among)


class Model:
    name = "model"

    def __init__(self) -> None:
        self.f = Facts()
        self.saved = copy.deepcopy(self.f)
        self.grants: dict[str, tuple[str, int, int]] = {}
        """Delivery → job, entry, n."""
        self.serial: Counter[str] = Counter()
        self.entries = 0
        self.epochs = 0
        self.trusts: dict[str, int] = {}
        """Member → epoch in which it was confirmed last: what its worker knows, which no failover takes back."""
        self.sessions: dict[str, int] = {}
        """Member → session that its worker is in."""

    # --- questions

    def ready(self, lane: str) -> list[str]:
        return self._in_order(lane, "ready")

    def held(self, lane: str) -> list[str]:
        return self._in_order(lane, "held")

    def _in_order(self, lane: str, place: str) -> list[str]:
        found = [u for u, j in self.f.jobs.items() if j.lane == lane and j.place == place]
        return sorted(found, key=lambda u: self.f.jobs[u].entry)

    def live(self, owner: str) -> bool:
        return owner in self.f.members and self.f.members[owner].live

    def orphans(self, lane: str) -> list[str]:
        return [u for u in self.held(lane) if not self.live(self.f.jobs[u].owner)]

    def serving(self, lane: str) -> list[str]:
        return [m for m, x in self.f.members.items() if x.live and lane in POOLS[x.pool]]

    def owns(self, m: str, delivery: str) -> bool:
        uid, entry, n = self.grants[delivery]
        job = self.f.jobs.get(uid)
        return job is not None and (job.place, job.entry, job.owner, job.n) == ("held", entry, m, n)

    def standing(self, m: str, stale: bool = False) -> str:
        if not self.live(m):
            return "LOST"
        if self.trusts[m] != self.f.epoch:
            return "EPOCH"
        return "STALE" if self.sessions[m] - stale < self.f.members[m].session else "OK"

    def quarantine(self) -> int:
        return max(0, self.f.quarantine_end - self.f.lease)

    # --- membership: R1 to R5, R10

    def join(self, m: str, pool: int, ttl: int, old: str, keep: tuple[str, ...]) -> Reply:
        if ttl != TTL:
            return ("TTL",)  # only asked for while somebody is alive
        if self.f.epoch == 0:
            virgin = self.epochs == 0
            self.forget()
            if virgin:  # the server is empty because it is new
                self.f.quarantine_end = 0
        self.f.members[m] = Member(pool, self.f.lease + TTL)
        self.trusts[m], self.sessions[m] = self.f.epoch, 1
        self.refresh()
        kept = [d for d in keep if self.owns(old, d)]
        for d in kept:
            self.f.jobs[self.grants[d][0]].owner = m
        if old in self.f.members:
            suspect = self.f.members[old].suspect
            self.f.members[m].suspect = suspect if suspect in {self.grants[d][0] for d in kept} else ""
            self.retire(old)
        return ("OK", tuple(sorted(kept)), self.quarantine())

    def retire(self, m: str) -> None:
        for job in self.f.jobs.values():
            if job.place == "held" and job.owner == m:
                job.owner = NOBODY
        self.f.members.pop(m, None)
        self.refresh()

    def leave(self, m: str) -> Reply:
        self.retire(m)
        return ()

    def renew(self, m: str) -> Reply:
        if not self.live(m):
            return ("LOST",)
        self.f.members[m].expiry = self.f.lease + TTL
        return (self.standing(m), tuple(sorted((u, j.cancel) for u, j in self.f.jobs.items() if j.cancel)))

    def confirm(self, m: str, known: tuple[str, ...]) -> Reply:
        if not self.live(m):
            return ("LOST",)
        self.f.members[m].expiry = self.f.lease + TTL
        self.trusts[m] = self.f.epoch
        return ("OK", tuple(sorted(d for d in known if self.owns(m, d))))

    def mine(self, m: str, known: tuple[str, ...], stale: bool) -> Reply:
        self.sessions[m] += not stale
        if not self.live(m):
            return ("LOST",)
        member = self.f.members[m]
        if self.sessions[m] - stale < member.session:
            return ("STALE",)
        member.session = self.sessions[m] - stale
        keep = {self.grants[d][0] for d in known if self.owns(m, d)}
        for uid, job in self.f.jobs.items():
            if job.place == "held" and job.owner == m and uid not in keep:
                job.owner = NOBODY
        if member.suspect not in keep:
            member.suspect = ""
        return ("OK",)

    def forget(self) -> None:
        self.epochs += 1
        self.f.epoch = self.epochs
        self.f.quarantine_end = self.f.lease + TTL

    def sweep(self) -> None:
        """One after the other: the last to go leaves its limit."""
        for member in sorted(self.f.members.values(), key=lambda x: x.expiry):
            member.live = member.live and member.expiry > self.f.lease
            self.refresh()

    # --- limits: R11

    def refresh(self) -> None:
        """A lane that nobody serves keeps its last limit."""
        for lane in LANES:
            declared = [POOLS[self.f.members[m].pool][lane].limit for m in self.serving(lane)]
            limits = [limit for limit in declared if limit is not None]
            if lane in self.f.paused:
                self.f.limits[lane] = 0
            elif lane in self.f.override:
                self.f.limits[lane] = self.f.override[lane]
            elif limits:
                self.f.limits[lane] = min(limits)
            elif declared:
                self.f.limits.pop(lane, None)

    def control(self, lane: str, what: str, value: int) -> Reply:
        match what:
            case "limit":
                self.f.override[lane] = value
            case "pause":
                self.f.paused.add(lane)
            case "reset":
                self.f.override.pop(lane, None)
            case _:
                self.f.paused.discard(lane)
        if what in ("reset", "resume") and not self.serving(lane):
            self.f.limits.pop(lane, None)
        self.refresh()
        return ()

    # --- jobs come in: R12

    def enter(self, job: Work) -> None:
        self.entries += 1
        job.place, job.entry, job.owner, job.n, job.crashes = "ready", self.entries, "", 0, 0

    def submit(self, batch: int, jobs: tuple[Job, ...]) -> Reply:
        if batch not in self.f.batches:
            self.f.batches[batch] = tuple(self._store(job) for job in jobs)
            for job, (_, is_new) in zip(jobs, self.f.batches[batch], strict=True):
                self.f.stats[job.lane]["submitted"] += is_new
        return self.f.batches[batch]

    def _store(self, job: Job) -> tuple[str, bool]:
        for uid, other in self.f.jobs.items():
            if job.key and (other.lane, other.key) == (job.lane, job.key) and other.place != "over":
                return (uid, False)
        work = self.f.jobs[job.uid] = Work(job.lane, job.key, "delayed")
        delay = max(job.delay, job.at - self.f.time if job.at else 0)
        if delay > 0:
            work.due = self.f.waiting + delay
        else:
            self.enter(work)
        return (job.uid, True)

    def promote(self) -> Reply:
        for _, job in sorted(
            ((j.due, j) for j in self.f.jobs.values() if j.place == "delayed"), key=lambda x: x[0]
        ):
            if job.due <= self.f.waiting:
                job.moved = True
                self.enter(job)
        return (self.next_due(),)

    def next_due(self) -> int | None:
        waits = [max(0, j.due - self.f.waiting) for j in self.f.jobs.values() if j.place == "delayed"]
        return min(waits, default=None)

    # --- claim: R6, R14, R15

    def exchange(self, m: str, ends: tuple[End, ...], want: Room | None, stale: bool) -> Reply:
        settled = self.settle(m, ends) if ends else None
        return (settled, self.claim(m, want, stale) if want else None)

    def claim(self, m: str, want: Room, stale: bool) -> Reply:
        status = self.standing(m, stale)
        if status != "OK":
            return (status,)
        self.promote()
        turn = Claim(self, m, want)
        lanes = sorted(POOLS[self.f.members[m].pool], key=lambda lane: lane != want.first)
        if want.room > 0 or want.extra:
            for lane in lanes:
                if self.ready(lane) or self.orphans(lane):
                    turn.visit(lane)
        turn.note_hunger()
        ends = [x.expiry - self.f.lease for o, x in self.f.members.items() if x.live and o != m]
        limits = {lane: self.f.limits[lane] for lane in turn.grants if lane in self.f.limits}
        facts = (self.next_due(), min(ends, default=None), self.quarantine(), turn.ended, turn.withheld)
        return ("OK", turn.grants, limits, facts)

    # --- settle: R8, and how a job ends

    def settle(self, m: str, ends: tuple[End, ...]) -> Reply:
        if self.trusts[m] != self.f.epoch:
            return ("EPOCH",)
        in_order = sorted(ends, key=lambda e: self.grants[e.delivery][1])
        refused = tuple(sorted((e.delivery, why) for e in in_order if (why := self._settle(m, e))))
        return ("OK", refused)

    def _settle(self, m: str, end: End) -> str:
        uid, entry, _ = self.grants[end.delivery]
        job = self.f.jobs.get(uid)
        if job is None or job.place != "held" or job.entry != entry:
            return "GONE"
        if not self.owns(m, end.delivery):
            return "FENCED"
        stats = self.f.stats[job.lane]
        if m in self.f.members and self.f.members[m].suspect == uid:
            self.f.members[m].suspect = ""
        match end.how:
            case "free":
                job.owner = NOBODY
            case "again" if job.cancel:
                self.over(uid, ("cancelled", job.cancel, 86_400_000), "cancelled")
            case "again":
                stats["retried"] += 1
                job.moved, job.place = end.delay == 0, "delayed"
                job.due = self.f.waiting + end.delay
                if not end.delay:
                    self.enter(job)
            case "dead":
                self.f.dead.append((job.lane, uid, "error"))
                self.over(uid, ("dead", "error", FOR_EVER), "dead")
            case "cancelled":
                self.over(uid, ("cancelled", "", FOR_EVER), "cancelled")
            case _:
                self.over(uid, ("succeeded", "", FOR_EVER) if end.how == "kept" else None, "succeeded")
        return ""

    def over(self, uid: str, record: tuple[str, str, int] | None, how: str) -> None:
        job = self.f.jobs[uid]
        job.place, job.record, job.cancel = "over", record, None
        self.f.stats[job.lane][how] += 1

    def cancel(self, uid: str, reason: str) -> Reply:
        job = self.f.jobs.get(uid)
        if job is None or (job.place == "over" and job.record is None):
            return ("unknown",)
        if job.place == "over":
            return ("already_done",)
        if job.place == "held" and job.owner != NOBODY:
            job.cancel = reason
            return ("requested",)
        self.over(uid, ("cancelled", reason, FOR_EVER), "cancelled")
        return ("removed",)

    def status(self, uid: str) -> Reply:
        job = self.f.jobs.get(uid)
        if job is None:
            return ("unknown",)
        if job.place == "over":
            return (job.record[0] if job.record else "unknown",)
        if job.place != "held":
            return (job.place,)
        if job.owner == NOBODY:
            return ("ready",)
        return ("cancelling" if job.cancel else "running",)

    # --- the world

    def set_time(self, ms: int) -> Reply:
        forward = max(0, ms - self.f.time)
        self.f.lease += min(forward, self.f.step)
        self.f.waiting += forward
        self.f.time = ms
        self.sweep()
        return ()

    def restart(self) -> Reply:
        if self.f.epoch:
            self.forget()
        return ()

    def flush(self) -> Reply:
        self.f = Facts(self.f.time)
        return ()

    def backup(self) -> Reply:
        self.saved = copy.deepcopy(self.f)
        return ()

    def fail_over(self) -> Reply:
        now = self.f.time
        self.f = copy.deepcopy(self.saved)
        self.set_time(now)
        return self.restart()

    def _holding(self, job: Work, uid: str) -> Reply:
        owner = job.owner if job.owner == NOBODY or self.live(job.owner) else "dead"
        return (uid, owner, job.n, job.crashes)

    def dump(self) -> dict[str, Any]:
        f = self.f
        jobs = f.jobs.items()
        return {
            "ready": {lane: self.ready(lane) for lane in LANES},
            "held": {lane: [self._holding(f.jobs[u], u) for u in self.held(lane)] for lane in LANES},
            "delayed": {u: j.due - f.waiting for u, j in jobs if j.place == "delayed"},
            "moved": sorted(u for u, j in jobs if j.moved and j.place in ("ready", "held")),
            "keys": {f"{j.lane}:{j.key}": u for u, j in jobs if j.key and j.place != "over"},
            "cancels": {u: j.cancel for u, j in jobs if j.cancel},
            "records": {u: j.record for u, j in jobs if j.record},
            "dead letters": {lane: [(u, kind) for x, u, kind in f.dead if x == lane] for lane in LANES},
            "limits": f.limits,
            "override": f.override,
            "paused": sorted(f.paused),
            "members": {m: (x.expiry - f.lease, x.session) for m, x in f.members.items() if x.live},
            "hungry": {
                lane: {
                    m: f.lease - at
                    for (x, m), at in f.hungry.items()
                    if x == lane and 0 <= f.lease - at <= HUNGRY
                }
                for lane in LANES
            },
            "quarantine": self.quarantine(),
            "stats": {lane: dict(+f.stats[lane]) for lane in LANES},
        }


class Claim:
    """One claim under way."""

    def __init__(self, model: Model, m: str, want: Room) -> None:
        self.model, self.f, self.m, self.want = model, model.f, m, want
        self.room, self.threads = want.room, want.threads
        self.grants: dict[str, list[tuple[str, int, int]]] = {}
        self.short: list[tuple[str, bool]] = []
        self.ended = 0
        self.withheld = False

    def visit(self, lane: str) -> None:
        limit = self.f.limits.get(lane)
        if limit is not None and self.model.quarantine():
            return
        space = max(0, min(self.room, self.threads) if lane == SYNC else self.room)
        if limit is None:
            space += self.want.extra.get(lane, 0)
        adopted = self.adopt(lane, space, limit)
        space -= adopted
        taken = self.read(lane, space, limit)
        self.room -= adopted + taken
        if lane == SYNC:
            self.threads -= adopted + taken

    def adopt(self, lane: str, space: int, limit: int | None) -> int:
        orphans, adopted = self.model.orphans(lane), 0
        held = len(self.model.held(lane)) - len(orphans)
        can = space if limit is None else min(space, limit - held)
        policy = POOLS[self.f.members[self.m].pool][lane]
        most = policy.max_crashes or 0
        for uid in orphans if can > 0 else ():
            job = self.f.jobs[uid]
            died = job.owner != NOBODY
            crashes = job.crashes + died
            if job.cancel:
                self.end(uid, ("cancelled", job.cancel, policy.failure_ttl_ms), "cancelled")
            elif died and crashes >= most:
                self.f.dead.append((lane, uid, "crashed"))
                self.end(uid, ("dead", "crashed", policy.failure_ttl_ms), "dead")
            elif adopted < can and not (crashes == most - 1 and self.f.members[self.m].suspect):
                if crashes == most - 1:
                    self.f.members[self.m].suspect = uid
                self.f.stats[lane]["crashed"] += died
                job.owner, job.n, job.crashes = self.m, job.n + 1, crashes
                self.grant(lane, uid)
                adopted += 1
        return adopted

    def end(self, uid: str, record: tuple[str, str, int], how: str) -> None:
        self.model.over(uid, record, how)
        self.ended += 1

    def read(self, lane: str, space: int, limit: int | None) -> int:
        ready, used = self.model.ready(lane), len(self.model.held(lane))
        others = sum(x.live for x in self.f.members.values()) > 1
        most = take = space if limit is None else min(space, limit - used)
        if others and most > 0:
            if limit is None:
                take = min(most, max(1, part(len(ready), len(self.model.serving(lane)))))
            else:
                self.f.hungry.pop((lane, self.m), None)
                take = min(most, self.share(lane, limit))
            self.withheld |= take == 0
        taken = ready[: max(0, take)]
        for uid in taken:
            job = self.f.jobs[uid]
            job.place, job.owner, job.n = "held", self.m, 1
            self.grant(lane, uid)
        if others and not 0 <= len(taken) < take:
            self.short.append((lane, take < most or take < space))
        return len(taken)

    def share(self, lane: str, limit: int) -> int:
        hungry = {m for (x, m), at in self.f.hungry.items() if x == lane and 0 <= self.f.lease - at <= HUNGRY}
        if not hungry:
            return limit
        owners = [self.f.jobs[u].owner for u in self.model.held(lane)]
        rest = sum(o not in hungry and o != self.m for o in owners)
        return max(0, part(limit - rest, len(hungry) + 1) - owners.count(self.m))

    def note_hunger(self) -> None:
        for lane, wanted in self.short:
            limit = self.f.limits.get(lane)
            if limit is None:
                continue
            self.f.hungry.pop((lane, self.m), None)
            if limit and self.model.ready(lane) and wanted and self.room > 0:
                self.f.hungry[lane, self.m] = self.f.lease

    def grant(self, lane: str, uid: str) -> None:
        job = self.f.jobs[uid]
        self.model.serial[uid] += 1
        self.model.grants[f"{uid}/{self.model.serial[uid]}"] = (uid, job.entry, job.n)
        self.grants.setdefault(lane, []).append((uid, job.n, job.crashes))
