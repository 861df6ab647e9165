"""The nouns of a job's way and of a member's: what passes between the rooms. No I/O, no defaults that read a clock.

What users hold is attrs; what is made once per job on the hot path is a msgspec Struct without garbage collector tracking
(an attrs frozen instance costs five times as much to make).
"""

from __future__ import annotations

import enum
from typing import Literal

import attrs
import msgspec

CancelReason = Literal["cancelled", "timeout", "shutdown", "lease_lost"]
"""Why a running body was cancelled: by ``job.cancel()``, by its timeout, by the worker's end, or with the worker's lease."""

HANDED_BACK = "-"
"""The pseudo owner of entries that were handed back: adoptable at once, and never counted as a crash."""


class Delivery(msgspec.Struct, gc=False, eq=False):
    """A job in a consumer's hands: one grant of one entry to one member.

    ``fence`` is unique and increases with every grant of the app, so it also names the delivery inside the worker.
    """

    lane: str
    entry: str
    """Stream entry id."""
    n: int
    """The pending list's delivery counter: (member, epoch, entry, n) fences the settle."""
    epoch: str
    fence: int
    crashes: int
    """How often this entry has taken a worker down so far."""
    raw: bytes
    """The envelope as it lies in the stream."""
    claimed_at: float = 0.0
    """Monotonic seconds when the grant reached this worker."""


class Want(msgspec.Struct, gc=False):
    """What a worker can start now. ``room`` 0 with ``ring`` passes a ring on to somebody who has room."""

    room: int
    """Free consumers."""
    threads: int
    """Free threads: sync tasks are claimed for these only."""
    extra: dict[str, int]
    """Unlimited lanes with short bodies: how many may be taken beyond ``room`` (they start within 20 ms)."""
    ring: bool = False


class Status(enum.StrEnum):
    """What a script says of the caller's standing."""

    OK = "OK"
    LOST = "LOST"
    """Not a live member any more: cancel, retire, join under a new id."""
    EPOCH = "EPOCH"
    """The server forgot (or another epoch began): confirm first."""
    STALE = "STALE"
    """An older session of this member: its reply must start nothing."""


class Refusal(enum.StrEnum):
    """Why an outcome was not taken."""

    GONE = "GONE"
    """The entry is not pending any more: settled before (a resend), or deleted by somebody."""
    FENCED = "FENCED"
    """Another delivery owns the entry now."""


class Succeeded(msgspec.Struct, gc=False):
    record: bytes | None
    """The JSON record for ``r:<id>``; None stores nothing."""
    ttl_ms: int


class Again(msgspec.Struct, gc=False):
    """Run it again: after a failure, or because its arguments did not fit this version of the code (skew)."""

    envelope: bytes
    """Re-encoded from the raw object, with ``id`` and the new ``attempt``."""
    delay_ms: int
    why: Literal["error", "timeout", "asked", "skew"]


class Dead(msgspec.Struct, gc=False):
    kind: str
    reason: str
    record: bytes
    ttl_ms: int
    detail: bytes
    """JSON: remote type, message, traceback, attempts: stored with the dead letter."""


class Cancelled(msgspec.Struct, gc=False):
    record: bytes
    ttl_ms: int


class Released(msgspec.Struct, gc=False):
    """Handed back, counted neither as an attempt nor as a crash."""


Outcome = Succeeded | Again | Dead | Cancelled | Released


class Ended(msgspec.Struct, gc=False):
    """One body's end, as one value: everything that the settle script writes for it."""

    delivery: Delivery
    outcome: Outcome
    job_id: str
    key: str = ""
    """Idempotency key to free, with its lane in front (``<lane>:<key>``); empty: none."""
    moved: bool = False
    """The job was delayed or retried before: it has a row in ``moved``."""
    run_ms: int = 0


class Claimed(msgspec.Struct, gc=False):
    status: Status
    epoch: str = ""
    grants: list[Delivery] = []
    limits: dict[str, int] = {}
    """Limit in force of each limited lane that has grants in this reply."""
    next_due: float | None = None
    """Seconds until the earliest delayed job is due."""
    next_expiry: float | None = None
    """Seconds until the earliest member's lease ends."""
    quarantine: float = 0.0
    """Seconds for which limited lanes start nothing after the server forgot."""
    dead: int = 0
    """Jobs that this claim ended: they had crashed too often, or were cancelled and their worker died."""
    withheld: bool = False
    """Work was left to hungry members although this one has room: it should let them hear the bell first."""


class Settled(msgspec.Struct, gc=False):
    status: Status
    refused: list[tuple[Delivery, Refusal]] = []


class Exchanged(msgspec.Struct, gc=False):
    """The answer to one turn. A part that was not asked for is None."""

    settled: Settled | None
    claimed: Claimed | None


class Joined(msgspec.Struct, gc=False):
    member: str
    epoch: str
    kept: list[int]
    """Fences of the kept deliveries that moved to the new member."""
    quarantine: float
    change: str = ""
    """Of the lease TTL, under way (``ttl_change``); empty: none."""


class Confirmed(msgspec.Struct, gc=False):
    status: Status
    epoch: str
    fences: list[int]
    """Fences of the listed deliveries that the server still shows as this member's."""


class Renewed(msgspec.Struct, gc=False):
    status: Status
    cancels: list[tuple[str, str, str]]
    """(lane, entry, reason) of running jobs that somebody cancelled, whoever runs them."""
    change: str = ""
    """As in ``Joined``."""


class Submission(msgspec.Struct, gc=False):
    """One job on its way into its stream."""

    lane: str
    envelope: bytes
    delay_ms: int = 0
    at_ms: int = 0
    """Unix milliseconds, 0: not before that moment of the server's clock."""
    key: str = ""


class Receipt(msgspec.Struct, gc=False):
    job_id: str
    created: bool
    """False: the idempotency key was taken; ``job_id`` is the first job's."""


class LanePolicy(msgspec.Struct, frozen=True):
    """What a member says of a lane when it joins; part of the pool's name."""

    limit: int | None
    max_crashes: int | None
    sync: bool
    failure_ttl_ms: int


class JobStatus(enum.StrEnum):
    """Where a job is, as far as Redis shows."""

    DELAYED = "delayed"
    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Not outstanding and no record is kept: ended without a stored result, expired, or never existed."""


class CancelAnswer(enum.StrEnum):
    REMOVED = "removed"
    """It had not started and never will."""
    REQUESTED = "requested"
    """It runs; its worker was told."""
    ALREADY_DONE = "already_done"
    UNKNOWN = "unknown"


class Record(msgspec.Struct, omit_defaults=True):
    """What ``r:<id>`` holds."""

    status: Literal["succeeded", "dead", "cancelled"]
    value: msgspec.Raw = msgspec.Raw(b"null")
    kind: str = ""
    type: str = ""
    message: str = ""
    traceback: str = ""
    reason: str = ""


@attrs.frozen
class LeaseTimes:
    """All times of the lease in seconds, derived from the TTL (LEASE.md's inequalities)."""

    ttl: float
    step: float
    """G: the most that one step of the server's clock can move the logical clock."""
    margin: float
    renew_every: float

    @classmethod
    def of(cls, ttl: float) -> LeaseTimes:
        return cls(ttl=ttl, step=ttl / 6, margin=0.35 * ttl, renew_every=ttl / 8)

    @property
    def trusted(self) -> float:
        """How long a renewal may be trusted, from when it was sent."""
        return self.ttl - self.margin
