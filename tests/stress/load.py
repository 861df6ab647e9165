"""The types of jobs of a run, as numbers: what the app declares, the producer submits and the witness judges."""

from __future__ import annotations

import math
from typing import Final

import attrs

AHEAD: Final = 1.2
"""Seconds of work that wait: the producer looks every ``TICK`` and may be cut off for a moment; and little is left at the end."""


@attrs.frozen(kw_only=True)
class Kind:
    """One type of job."""

    seconds: float
    """How long its body takes."""
    limit: int | None = None
    rate: float = 0.0
    """Jobs a second that are submitted, whatever happens. 0: as many as keep ``depth`` outstanding."""

    @property
    def depth(self) -> int:
        """Of a limited type, outstanding at any time: its limit, and what it does in a bit more than a second. 0 for others."""
        return self.limit + max(3, math.ceil(AHEAD * self.limit / self.seconds)) if self.limit else 0


KINDS: Final[dict[str, Kind]] = {
    "single": Kind(seconds=0.6, limit=1),
    "narrow": Kind(seconds=0.5, limit=4),
    "wide": Kind(seconds=0.5, limit=60),
    "long": Kind(seconds=4.0, limit=6),
    "thread": Kind(seconds=0.6, limit=4),
    "free": Kind(seconds=0.05, rate=140.0),
    "delayed": Kind(seconds=0.05, rate=10.0),
    "flaky": Kind(seconds=0.02, rate=10.0),
    "block": Kind(seconds=0.1, rate=1.0),
    "hog": Kind(seconds=0.0),
    "poison": Kind(seconds=0.1),
}
"""``thread`` is a plain function; ``delayed`` starts half a second later; ``flaky`` fails at its first attempt; ``block`` and ``hog``
block the event loop, the one for a moment and often, the other for longer than a lease and when told; ``poison`` kills its worker.
"""

LIMITS: Final = {name: kind.limit for name, kind in KINDS.items() if kind.limit is not None}
DEADLY: Final = frozenset({"poison"})
BLOCKING: Final = frozenset({"hog"})
DELAY: Final = 0.5
APP: Final = "stress"
