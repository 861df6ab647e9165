"""Whom a fault hits: by chance, among those whom it can show something."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.stress.fleet import Fleet, Slot
from tests.stress.load import KINDS, LIMITS
from tests.stress.logbook import gained

GROWN = 1.5
"""Seconds that a worker has been there before anything is done to it."""
SPARE = 2
"""Workers that are left alone at any moment."""
LONGEST = max(LIMITS, key=lambda task: KINDS[task].seconds)
"""The type whose bodies run longest."""
YOUNG = 1.5
"""Seconds that such a body has run at most, so that it outlives its worker's lease for long if nobody cancels it."""


class Victims:
    """Chooses workers that are well."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._chance = random.Random(f"{seed} victims")
        self._stops = 0

    def choose(self, kind: str) -> Slot | None:
        """One that nothing else is being done to, and that has been there for a moment. None: too many are hurt already."""
        free = self._free()
        grown = [slot for slot in free if time.monotonic() - slot.born > GROWN]
        if len(free) <= SPARE or not grown:
            return None
        if kind in {"partition", "late partition"}:
            # what would run on for longer than the lease must not
            more = self._gained(YOUNG)
            most = max(map(more, grown))
            grown = [slot for slot in grown if more(slot) == most]
        elif kind == "stop past the lease":
            # in turn, one that wakes up and finds that others have taken over, and one that its supervisor will kill
            self._stops += 1
            grown = [slot for slot in grown if slot.supervised == (self._stops % 2 == 0)] or grown
        return self._chance.choice(grown)

    def forgotten(self, seconds: float) -> list[Slot]:
        """Those whose long bodies a server forgets that loses its last so many seconds; at most half of the fleet."""
        more = self._gained(seconds)
        found = sorted((slot for slot in self._free() if more(slot) > 0), key=more, reverse=True)
        return found[: len(self._fleet.slots) // 2]

    def _free(self) -> list[Slot]:
        return [slot for slot in self._fleet.slots if not slot.busy and not slot.reaped.is_set()]

    def _gained(self, seconds: float) -> Callable[[Slot], int]:
        """How many more of the longest bodies run in a worker than so many seconds ago."""
        found = gained(self._fleet.bodies, LONGEST, time.monotonic() - seconds)
        return lambda slot: found[slot.pid]
