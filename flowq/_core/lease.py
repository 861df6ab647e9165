"""The keeper's machine: when to renew, and when it is too late. LEASE.md §2, rules 3 and 9.

State picture, of one membership::

    joined ──OK──▶ held ──deadline──▶ over          server: expiry = last renewal it saw + TTL, on its logical clock
              ▲      │                 ▲            here:   deadline = last confirming renewal *sent* + TTL - margin
              └─OK───┘     LOST ───────┘            kill:   deadline + KILL_AFTER · TTL, still before the expiry

Who is authoritative: the server says who is a member. The local clock (monotonic, running through a suspend) is used only to
bound how long the last good answer may be trusted, counted from when that renewal was *sent*; an answer that comes after the
deadline revives nothing. A claim extends nothing.

Under faults: a renewal without an answer is repeated after a short wait until the deadline, and cancels nothing. EPOCH (the
server forgot) extends nothing; the loop confirms. A loop whose pulse is older than ``max_stall`` is not renewed for: its bodies
cannot be stopped by it any more.

The keeper's thread drives this machine alone; the loop reads ``deadline`` (one float), begins a new machine for each
membership, calls ``confirmed`` after the server forgot, and ``heed`` when the fleet's TTL is changed. If the two write at once the
smaller deadline may stay: harmless, the next renewal moves it. A larger one stays until ``about_to_tell``, before each renewal.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs

from flowq._model import LeaseTimes

KILL_AFTER = 0.13
"""Of the TTL: how long limited bodies have to leave after the deadline before the supervisor kills. The rest of the margin is
for a step of the server's clock (1/6), drift, and the kill itself."""
RETRY_AFTER = 1 / 40
"""Of the TTL: wait after the first failed renewal; doubles, up to the usual period."""
STALL_LOOK = 0.5
"""Seconds between looks at a loop that stalls."""


@attrs.frozen
class Step:
    """What the keeper does next: renew now, report limited bodies that outlived their lease, or rest until then."""

    do: Literal["renew", "report", "rest"]
    until: float = math.inf
    """Monotonic seconds; ``rest`` ends there, or when somebody pokes the keeper."""


RENEW = Step("renew")
REPORT = Step("report")


@attrs.define(eq=False)
class Lease:
    """One membership's lease. Times are monotonic seconds of one clock, handed in."""

    times: LeaseTimes
    deadline: float
    """From here on nothing may run under this lease, and nothing revives it."""
    due: float
    """When the next renewal is sent."""
    failures: int = 0
    """Renewals without an answer since the last good one."""
    over: bool = False
    """The server said LOST, or the worker has retired this membership."""
    reported: bool = False
    warned: bool = False
    change: str = ""
    """The change of the fleet's TTL that ``times`` allow for; each renewal tells it."""
    told_at: float = 0.0
    """When the last request was sent whose answer told of a change of the fleet's TTL, or of none."""

    @classmethod
    def begin(cls, times: LeaseTimes, sent_at: float, change: str = "") -> Lease:
        """The lease that a join, sent at ``sent_at``, began."""
        return cls(
            times, sent_at + times.trusted, sent_at + times.renew_every, change=change, told_at=sent_at
        )

    @property
    def kill_at(self) -> float:
        """When a supervisor ends a process whose limited bodies are still running."""
        return self.deadline + KILL_AFTER * self.times.ttl

    def step(self, now: float, pulse: float, bodies: int, max_stall: float) -> Step:
        """Decide.

        Args:
            pulse: when the event loop last showed that it is alive.
            bodies: limited bodies that run under this lease.
            max_stall: seconds for which a silent loop is renewed for.
        """
        if self.over or now >= self.deadline:
            return self._too_late(now, bodies)
        if now - pulse > max_stall:
            return Step("rest", min(now + STALL_LOOK, self.deadline))
        if now >= self.due:
            return RENEW
        return Step("rest", min(self.due, self.deadline))

    def _too_late(self, now: float, bodies: int) -> Step:
        if not bodies or self.reported:
            return Step("rest")
        if now >= self.kill_at:
            self.reported = True
            return REPORT
        return Step("rest", self.kill_at)

    def renewed(self, sent_at: float, now: float) -> None:
        """The server extended the lease by a renewal sent at ``sent_at``; its answer came ``now``."""
        self.failures = 0
        self.warned = False
        self.due = sent_at + self.times.renew_every
        self._extend(sent_at, now)

    def confirmed(self, sent_at: float, now: float) -> None:
        """The loop had its deliveries confirmed, which renews, too."""
        self._extend(sent_at, now)

    def forgot(self, now: float) -> None:
        """The server is of another epoch: nothing is extended until the loop has confirmed."""
        self.due = now + self.times.renew_every

    def failed(self, now: float) -> bool:
        """A renewal had no answer. Returns True when this is the moment to warn: half of the trusted time is gone."""
        self.failures += 1
        wait = RETRY_AFTER * self.times.ttl * 2 ** min(self.failures - 1, 16)
        self.due = now + min(self.times.renew_every, wait)
        half = self.times.trusted / 2
        if self.warned or not self.deadline - half <= now < self.deadline:
            return False
        self.warned = True
        return True

    def lost(self, now: float) -> None:
        """It is over: the server said so, or the worker retired it. Limited bodies have from now on what they had from the deadline."""
        self.over = True
        self.deadline = min(self.deadline, now)

    def heed(self, change: str, times: LeaseTimes, now: float) -> None:
        """The fleet's TTL is being changed: these times hold from here on. Shorter ones cut the lease that runs."""
        self.times = times
        self._cut(now)
        self.due = min(self.due, now + times.renew_every)
        self.change = change  # the last, see about_to_tell

    def about_to_tell(self, now: float) -> str:
        """The change that the next renewal may tell: the keeper calls this, publishes, and only then sends."""
        change = self.change  # the first, see heed
        self._cut(now)
        return change

    def _cut(self, now: float) -> None:
        latest = now + self.times.trusted
        if self.deadline > latest:  # noqa: PLR1730 - a write that changes nothing could undo the other thread's
            self.deadline = latest

    def _extend(self, sent_at: float, now: float) -> None:
        if not self.over and now < self.deadline:
            self.deadline = max(self.deadline, sent_at + self.times.trusted)
