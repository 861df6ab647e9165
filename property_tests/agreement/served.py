"""Names for ids: what the memory backend and Redis have in common as places."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from flowq._model import (
    Again,
    Cancelled,
    Claimed,
    Confirmed,
    Dead,
    Delivery,
    Ended,
    Exchanged,
    Joined,
    LanePolicy,
    Outcome,
    Receipt,
    Released,
    Renewed,
    Settled,
    Status,
    Submission,
    Succeeded,
    Want,
)
from flowq.backends.protocol import MemberFacts, Standing
from flowq.testing.conformance.jobs import ended, job_id, record

from .words import FOR_EVER, POOLS, START, End, Job, Reply, Room

FACTS = MemberFacts(host="here", pid=1, version="0", concurrency=10, backend="none")


def uid_of(envelope: bytes | str) -> str:
    """The program's name of a job, from its payload."""
    found: str = msgspec.json.decode(envelope)["args"][0]
    return found


def ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


class Served:
    """A place that deals in real standings, deliveries and outcomes."""

    name: str

    def __init__(self) -> None:
        self.now = START
        self.me: dict[str, Standing] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.serial: Counter[str] = Counter()
        self.lost_facts = False
        """The server went back to a backup, or lost all: what it minted since may come again, unless its member has seen it."""
        self.uids: dict[str, str] = {}
        """Public id → name of the job."""
        self.ids: dict[str, str] = {}
        self.ttls: dict[tuple[str, bytes], int] = {}
        """Of each record, as it was when it was first seen."""

    # --- what each place does in its own way

    @abstractmethod
    def _join(
        self, m: str, lanes: dict[str, LanePolicy], ttl: int, old: str, keep: list[Delivery]
    ) -> Joined | None:
        """None: refused, another TTL."""

    @abstractmethod
    def _renew(self, me: Standing) -> Renewed: ...
    @abstractmethod
    def _confirm(self, me: Standing, known: list[Delivery]) -> Confirmed: ...
    @abstractmethod
    def _mine(self, me: Standing, known: list[Delivery]) -> Settled: ...
    @abstractmethod
    def _exchange(
        self, m: str, me: Standing, ended: list[Ended], want: Want | None, first: str
    ) -> Exchanged: ...
    @abstractmethod
    def _submit(self, batch: str, jobs: list[Submission]) -> list[Receipt]: ...
    @abstractmethod
    def _cancel(self, job: str, reason: str, body: bytes, ttl: int) -> str: ...
    @abstractmethod
    def _status(self, job: str) -> str: ...
    @abstractmethod
    def _promote(self) -> float | None: ...
    @abstractmethod
    def _records(self) -> dict[str, tuple[bytes, int]]:
        """Job id → record, TTL in ms."""

    # --- membership

    def join(self, m: str, pool: int, ttl: int, old: str, keep: tuple[str, ...]) -> Reply:
        known = [self.deliveries[d] for d in keep]
        joined = self._join(m, POOLS[pool], ttl, old, known)
        if joined is None:
            return ("TTL",)
        self.me[m] = Standing(joined.member, 1, joined.epoch, self.me[old].fence if old else 0)
        kept = self._named(joined.kept, keep)
        for d in kept:
            self.deliveries[d].epoch = joined.epoch
        return ("OK", kept, ms(joined.quarantine))

    def _named(self, fences: Iterable[int], among: tuple[str, ...]) -> tuple[str, ...]:
        found = set(fences)
        return tuple(sorted(d for d in among if self.deliveries[d].fence in found))

    def renew(self, m: str) -> Reply:
        renewed = self._renew(self.me[m])
        if renewed.status is Status.LOST:
            assert not renewed.cancels
            return ("LOST",)
        cancels = ((self._uid_at(lane, entry), reason) for lane, entry, reason in renewed.cancels)
        return (str(renewed.status), tuple(sorted(cancels)))

    @abstractmethod
    def _uid_at(self, lane: str, entry: str) -> str:
        """The job in this entry."""

    def confirm(self, m: str, known: tuple[str, ...]) -> Reply:
        confirmed = self._confirm(self.me[m], [self.deliveries[d] for d in known])
        if confirmed.status is Status.LOST:
            return ("LOST",)
        me = self.me[m]
        self.me[m] = Standing(me.member, me.session, confirmed.epoch, me.fence)
        return ("OK", self._named(confirmed.fences, known))

    def mine(self, m: str, known: tuple[str, ...], stale: bool) -> Reply:
        me = self.me[m]
        self.me[m] = me = Standing(me.member, me.session + (not stale), me.epoch, me.fence)
        return (str(self._mine(self._in_session(m, stale), [self.deliveries[d] for d in known]).status),)

    def _in_session(self, m: str, stale: bool) -> Standing:
        me = self.me[m]
        return Standing(me.member, me.session - stale, me.epoch, me.fence)

    # --- work

    def exchange(self, m: str, ends: tuple[End, ...], want: Room | None, stale: bool) -> Reply:
        asked = Want(want.room, want.threads, dict(want.extra)) if want else None
        outcomes = [ended(self.deliveries[e.delivery], self._outcome(e)) for e in ends]
        # the scripts take outcomes in stream order, the order in which jobs start again is nobody's promise
        outcomes.sort(key=lambda e: (e.delivery.lane, *map(int, e.delivery.entry.split("-"))))
        found = self._exchange(m, self._in_session(m, stale), outcomes, asked, want.first if want else "")
        settled = self._settled(found.settled) if found.settled else None
        return (settled, self._claimed(m, found.claimed) if found.claimed else None)

    def _outcome(self, end: End) -> Outcome:
        raw = self.deliveries[end.delivery].raw
        match end.how:
            case "ok":
                return Succeeded(None, 0)
            case "kept":
                return Succeeded(record(1), FOR_EVER)
            case "dead":
                body = msgspec.json.encode({"status": "dead", "kind": "error"})
                return Dead("error", "no good", body, FOR_EVER, b"{}")
            case "cancelled":
                return Cancelled(record(status="cancelled"), FOR_EVER)
            case "again":
                fields = msgspec.json.decode(raw) | {"id": job_id(self.deliveries[end.delivery])}
                return Again(msgspec.json.encode(fields), end.delay, "error")
            case _:
                return Released()

    def _settled(self, settled: Settled) -> Reply:
        if settled.status is not Status.OK:
            return (str(settled.status),)
        names = {id(d): name for name, d in self.deliveries.items()}
        return ("OK", tuple(sorted((names[id(d)], str(why)) for d, why in settled.refused)))

    def _claimed(self, m: str, claimed: Claimed) -> Reply:
        if claimed.status is not Status.OK:
            return (str(claimed.status),)
        grants: dict[str, list[tuple[str, int, int]]] = {}
        me = self.me[m]
        assert claimed.epoch == me.epoch
        known = [] if self.lost_facts else [d.fence for d in self.deliveries.values()]
        top = max([me.fence, *known])
        for grant in sorted(claimed.grants, key=lambda d: d.fence):
            uid = uid_of(grant.raw)
            assert job_id(grant) == self.ids[uid]
            assert grant.fence > top, "fences go up"
            top = grant.fence
            self.serial[uid] += 1
            self.deliveries[f"{uid}/{self.serial[uid]}"] = grant
            grants.setdefault(grant.lane, []).append((uid, grant.n, grant.crashes))
        self.me[m] = Standing(me.member, me.session, me.epoch, top)
        facts = (
            ms(claimed.next_due),
            ms(claimed.next_expiry),
            ms(claimed.quarantine),
            claimed.dead,
            claimed.withheld,
        )
        return ("OK", grants, claimed.limits, facts)

    # --- jobs

    def submit(self, batch: int, jobs: tuple[Job, ...]) -> Reply:
        receipts = self._submit(f"batch{batch}", [self._submission(job) for job in jobs])
        for job, receipt in zip(jobs, receipts, strict=True):
            if receipt.created:
                self.uids[receipt.job_id] = job.uid
                self.ids[job.uid] = receipt.job_id
        return tuple((self.uids[receipt.job_id], receipt.created) for receipt in receipts)

    def _submission(self, job: Job) -> Submission:
        fields: dict[str, Any] = {"v": 1, "task": job.lane, "args": [job.uid], "kwargs": {}, "attempt": 1}
        envelope = msgspec.json.encode(fields | ({"key": job.key} if job.key else {}))
        return Submission(job.lane, envelope, job.delay, job.at, job.key)

    def cancel(self, uid: str, reason: str) -> Reply:
        return (self._cancel(self.ids[uid], reason, record(status="cancelled", reason=reason), FOR_EVER),)

    def status(self, uid: str) -> Reply:
        return (self._status(self.ids[uid]),)

    def promote(self) -> Reply:
        return (ms(self._promote()),)

    # --- the state

    def records(self) -> dict[str, Reply]:
        """Name of the job → status, kind or reason, TTL at first sight."""
        found: dict[str, Reply] = {}
        for job, (body, ttl) in self._records().items():
            fields = msgspec.json.decode(body)
            said = fields.get("kind") or fields.get("reason") or ""
            found[self.uids[job]] = (fields["status"], said, self.ttls.setdefault((job, body), ttl))
        return found

    def owner(self, member: str, live: Sequence[str]) -> str:
        """The program's name of an owner."""
        if member == "-":
            return "-"
        return self.named(member) if member in live else "dead"

    def named(self, member: str) -> str:
        return next(m for m, me in self.me.items() if me.member == member)
