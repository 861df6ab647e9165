"""Which body is out of time: one table for all consumers of a worker instead of a timer a job."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

NEVER = math.inf


class Timed(Protocol):
    """A row of the table: somebody whose present body must end at ``deadline`` (monotonic seconds)."""

    deadline: float


T = TypeVar("T", bound=Timed)


def earliest(rows: Iterable[Timed]) -> float:
    """When the next one is out of time; ``NEVER`` if none is."""
    return min((row.deadline for row in rows), default=NEVER)


def expired(rows: Iterable[T], now: float) -> list[T]:
    """Those that are out of time."""
    return [row for row in rows if row.deadline <= now]
