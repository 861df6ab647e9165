"""What a program says, and what a place answers: plain values, the same for every place."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from flowq._model import LanePolicy
from flowq.testing.conformance.jobs import policy

TTL = 10_000
"""Lease, ms."""
START = 1_700_000_000_000
"""Server's time at the beginning, unix ms; before the true one, so that Redis trims no dead letter of a program."""
FOR_EVER = 10**12
"""TTL of records, ms: the memory backend's run on the test's clock, Redis's on its own, and neither may end here."""

LANES = ("a", "b", "u")
SYNC = "b"


def _lane(limit: int | None, max_crashes: int, *, sync: bool = False) -> LanePolicy:
    return policy(limit, max_crashes=max_crashes, sync=sync, failure_ttl_ms=2 * FOR_EVER)


POOLS: tuple[dict[str, LanePolicy], ...] = (
    {"a": _lane(2, 3), "u": _lane(None, 2)},
    {"a": _lane(3, 3), "b": _lane(2, 2, sync=True)},
    {"a": _lane(2, 3)},
    {"b": _lane(1, 2, sync=True), "u": _lane(None, 2)},
)
"""What members may serve, two lanes at most."""

Reply = tuple[Any, ...]


@attrs.frozen
class Job:
    """One job of a batch; its name is told by its payload."""

    uid: str
    lane: str
    delay: int = 0
    at: int = 0
    key: str = ""


@attrs.frozen
class Room:
    """What a claim asks for, and the lane that it begins with."""

    room: int
    threads: int
    extra: dict[str, int]
    first: str


@attrs.frozen
class End:
    """How a delivery ends: ``ok``, ``kept``, ``dead``, ``cancelled``, ``free``, or ``again`` after ``delay`` ms."""

    delivery: str
    how: str
    delay: int = 0


class Place(Protocol):
    """Members and deliveries go by names: ``m1``, and ``j4/2`` for the second grant of job ``j4``."""

    name: str

    def join(self, m: str, pool: int, ttl: int, old: str, keep: tuple[str, ...]) -> Reply:
        """``old``: the name of a former life, or empty."""
        ...

    def renew(self, m: str) -> Reply: ...
    def confirm(self, m: str, known: tuple[str, ...]) -> Reply: ...
    def mine(self, m: str, known: tuple[str, ...], stale: bool) -> Reply:
        """``stale``: from a session before the present one."""
        ...

    def exchange(self, m: str, ends: tuple[End, ...], want: Room | None, stale: bool) -> Reply: ...
    def leave(self, m: str) -> Reply: ...
    def submit(self, batch: int, jobs: tuple[Job, ...]) -> Reply: ...
    def cancel(self, uid: str, reason: str) -> Reply: ...
    def status(self, uid: str) -> Reply: ...
    def control(self, lane: str, what: str, value: int) -> Reply: ...
    def promote(self) -> Reply: ...
    def set_time(self, ms: int) -> Reply:
        """The server's time is this, unix ms, and the lives that ended by it are noticed."""
        ...

    def restart(self) -> Reply: ...
    def flush(self) -> Reply: ...
    def backup(self) -> Reply: ...
    def fail_over(self) -> Reply:
        """To the last backup."""
        ...

    def dump(self) -> dict[str, Any]: ...
