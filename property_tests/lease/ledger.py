"""What the test knows by itself: every job that was submitted, what became of it, every fence, every body.

Outcomes are written down when the server accepts them, whether or not the worker hears of it; a server that loses its tail takes
the ledger back to the same moment.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs

from flowq._model import Again, Cancelled, Dead, Delivery, Ended, Released

from .body import Body
from .state import State


class Violation(AssertionError):
    """A promise was broken. ``promise`` is its name, as in the table of docs/lease-machine.md."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


@attrs.define
class Job:
    lane: str
    id: str
    key: str = ""
    state: str = "open"
    cancel: bool = False
    """Somebody asked for its cancellation and was told that its worker will hear of it."""
    crashes: int = 0
    """How often it was taken over from a member that died."""
    fence: int = 0
    """Highest fence under which it was delivered."""


class Ledger:
    """The test's own book."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.fences: set[int] = set()
        self.bodies: list[Body] = []
        self.admitted: dict[int, float] = {}
        """By fence: the limit of its lane when it was granted; a prefetched one may start under a lower."""
        self.events: Counter[str] = Counter()
        self.lost: set[str] = set()
        """What the server lost so far, by name: it excuses only what the check that looks at it says."""
        self.set_back = False
        """The server's clock was set back and its memory of the fences lost: then they may come again (LEASE §4, question 5)."""
        self.used: dict[str, int] = {}
        """Tokens in use at the last look; None of them was ever above the limit unless it already was."""

    def copy_jobs(self) -> dict[str, Job]:
        return {uid: attrs.evolve(job) for uid, job in self.jobs.items()}

    def go_back(self, jobs: dict[str, Job]) -> None:
        """The server is where it was then. Fences were handed out all the same."""
        now = self.jobs
        self.jobs = {
            uid: attrs.evolve(j, fence=now[uid].fence if uid in now else j.fence) for uid, j in jobs.items()
        }
        self.used.clear()

    def check_open(self, uid: str, doing: str) -> Job:
        job = self.jobs.get(uid)
        if job is None:
            raise Violation(
                "no ghost", f"{doing} of {uid}, which nobody submitted (or whose submission the server lost)"
            )
        if job.state != "open":
            raise Violation("one outcome", f"{doing} of {uid}, which is {job.state} already")
        return job

    # --- what the server accepted

    def settled(self, before: State, member: str, epoch: str, ended: Ended) -> None:
        d = ended.delivery
        held = before.lanes[d.lane].pending.get(d.entry)
        if held != (member, d.n) or before.clock.get("ep") != epoch:
            raise Violation(
                "fenced settle", f"{member} settled {d.lane} {d.entry} n={d.n}, which belonged to {held}"
            )
        uid = uid_of(before.lanes[d.lane].entries[d.entry])
        job = self.check_open(uid, "settle")
        match ended.outcome:
            case Again() if f"{d.lane}|{d.entry}" in before.cancels:
                job.state = "cancelled"
            case Again():
                self.events["retried"] += 1
                job.crashes = 0
            case Released():
                self.events["handed back"] += 1
            case Dead():
                job.state = "dead"
            case Cancelled():
                job.state = "cancelled"
            case _:
                job.state = "done"
        if job.state != "open":
            self.events["settled"] += 1

    def refused(self, before: State, member: str, ended: Ended, why: str) -> None:
        d = ended.delivery
        self.events[why] += 1
        if before.lanes[d.lane].pending.get(d.entry) == (member, d.n):
            raise Violation("settle is taken", f"{member} owns {d.entry} n={d.n} and was told {why}")

    def granted(self, before: State, grant: Delivery, after: State) -> None:
        uid = uid_of(grant.raw)
        job = self.check_open(uid, "delivery")
        if grant.fence in self.fences and not self.set_back:
            raise Violation("fence", f"{grant.fence} was given twice")
        if grant.fence <= job.fence and not self.set_back:
            raise Violation("fence", f"{uid}: {grant.fence} after {job.fence}")
        self.fences.add(grant.fence)
        self.admitted[grant.fence] = after.limits.get(grant.lane, float("inf"))
        job.fence = max(job.fence, grant.fence)
        if grant.n > 1 and (grant.crashes, grant.n) != (
            now := (
                after.lanes[grant.lane].crashes.get(grant.entry, 0),
                after.lanes[grant.lane].pending[grant.entry][1],
            )
        ):
            raise Violation(
                "crash count", f"{uid} came with {grant.crashes}, n={grant.n}; the server has {now}"
            )

    def adopted(self, before: State, after: State) -> None:
        """A claim changed owners, whether or not its reply says so."""
        for name, lane in before.lanes.items():
            for entry, (owner, n) in lane.pending.items():
                new = after.lanes[name].pending.get(entry, (owner, n))
                if new == (owner, n):
                    continue
                uid = uid_of(lane.entries[entry])
                self.events["adopted"] += 1
                died = owner != "-"
                self.jobs[uid].crashes += died
                crashes = lane.crashes.get(entry, 0) + died
                if new[1] != n + 1 or after.lanes[name].crashes.get(entry, 0) != crashes:
                    raise Violation(
                        "crash count", f"{uid} went from {owner} n={n} to {new}; {crashes} crashes expected"
                    )
                if after.live(owner):
                    raise Violation("adoption", f"{uid} was taken from {owner}, which is alive")

    def vanished(self, uid: str, job: Job, record: Any, after: State, max_crashes: int) -> None:
        """A job that is nowhere: it must have been ended by the server, by a right of its own."""
        status = json.loads(record).get("status") if record else None
        buried = any(uid_of(letter["d"]) == uid for letter in after.dead)
        if status == "cancelled" and job.cancel:
            job.state = "cancelled"
        elif status == "dead" and buried and job.crashes >= max_crashes - 1:
            job.state = "dead"
            self.events["dead letters"] += 1
        else:
            raise Violation(
                "no loss",
                f"{uid} ({job.id}) is nowhere; record {record!r}, letter {buried}, {job.crashes} crashes",
            )


def uid_of(envelope: str | bytes) -> str:
    """The test's own name of a job, from its payload."""
    return str(json.loads(envelope)["x"])
