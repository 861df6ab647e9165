"""What a worker holds: its deliveries, the bodies that run, the requests it has sent; and the times of its lease."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from flowq._model import Again, Cancelled, Dead, Delivery, Ended, LeaseTimes, Outcome, Released, Succeeded
from flowq.backends.redis import scripts

if TYPE_CHECKING:
    from .member import Member

TTL = 10_000
"""Lease in ms of every fleet at first. LeaseTimes makes of it: G 1667, margin 3500, renew every 1250."""
SHORT_TTL = 6000
"""What an operator may change it to, and back."""


@attrs.frozen
class Times:
    """What a worker makes of a TTL, in ms."""

    ttl: int
    local: int
    """For how long after its sending a renewal keeps this worker's bodies alive."""
    renew_every: int
    unwind: int
    """How long a cancelled body may still run: margin - G - a little for the watchdog."""

    @classmethod
    def of(cls, ttl: int) -> Times:
        times = LeaseTimes.of(ttl / 1000)
        return cls(ttl, int(times.trusted * 1000), int(times.renew_every * 1000), ttl * 15 // 100)


CONCURRENCY = 6
RECORD_TTL = 600_000


@attrs.define(eq=False)
class Body:
    """One run of a job's function: what the promises are about."""

    job: str
    lane: str
    entry: str
    fence: int
    limited: bool
    owner: Member
    life: str
    started: int
    stops: int | None = None
    """When it surely runs no more; None: it runs."""
    lease_ended: int | None = None
    """Its member's life ended then, and it went on (unlimited lanes only)."""
    excused: bool = False
    """Its process was stopped at its deadline: it could not be cancelled in time."""
    bound: float = 0
    """Largest limit of its lane that was in force while it ran."""

    def runs(self, now: int) -> bool:
        return self.stops is None or now < self.stops

    def leased(self, now: int) -> bool:
        """Does it run, and count? From the deadline on only an unlimited one is free to, or one that a stopped process cannot end."""
        until = self.owner.deadline if self.lease_ended is None else self.lease_ended
        late = self.limited and not self.owner.paused and not self.excused
        return self.runs(now) and (now < until + self.owner.times.unwind or late)


@attrs.define(eq=False)
class Held:
    """A delivery that this worker knows: waiting to start, running, or ended with its outcome not yet acknowledged."""

    delivery: Delivery
    limited: bool
    envelope: dict[str, Any]
    body: Body | None = None
    ended: Ended | None = None


@attrs.define(eq=False)
class Request:
    """What goes over the wire: one or two script calls in one write, and what the reply needs to be understood."""

    kind: str
    calls: list[tuple[str, scripts.Args]]
    member: str
    sent: int
    ended: list[Ended] = attrs.Factory(list)
    listed: list[Delivery] = attrs.Factory(list)
    new_id: str = ""
    number: int = 0
    """Of a renewal: in the order of sending."""


def outcome_of(how: str, job: dict[str, Any], first_id: str, why: str) -> Outcome:
    match how:
        case "ok":
            return Succeeded(record=None, ttl_ms=0)
        case "result":
            return Succeeded(record=b'{"status":"succeeded"}', ttl_ms=RECORD_TTL)
        case "retry" | "retry_later":
            again = json.dumps({"id": first_id, **job}).encode()
            return Again(envelope=again, delay_ms=0 if how == "retry" else 700, why="asked")
        case "dead":
            return Dead("error", "why", b'{"status":"dead"}', RECORD_TTL, b"{}")
        case "free":
            return Released()
        case "cancelled":
            record = json.dumps({"status": "cancelled", "reason": why}).encode()
            return Cancelled(record, RECORD_TTL)
        case _:
            raise ValueError(how)
