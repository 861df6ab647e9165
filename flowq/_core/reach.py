"""How many jobs a worker may hold that have not started: bodies that compute run one after the other, whatever the number of free
consumers, and what waits behind them could run elsewhere (CORRECTIONS 1.11).

It is found as a sender finds its window: doubled while everything that was granted has started, set to what starts within
``HORIZON`` when something waits for the event loop although consumers are free.
"""

from __future__ import annotations

from typing import Final

import attrs

from flowq._core.prefetch import HORIZON, MOST_AHEAD, Load

FIRST: Final = 4
"""Jobs, before anything is known: bodies that wait double it within milliseconds."""


@attrs.define
class Reach:
    """See the module. Fed every few milliseconds of a busy worker."""

    jobs: int = FIRST
    _running: int = 0
    _something_waited: bool = False

    def add(self, ended: int, seconds: float, load: Load) -> None:
        """Learn from the time since the last call.

        Args:
            ended: bodies that ended in it.
            seconds: how long it was.
            load: as it is now.
        """
        most = max(MOST_AHEAD, load.consumers)
        started = ended + load.running - self._running
        if not load.waiting:
            self.jobs = min(2 * self.jobs, most)
        elif self._something_waited and load.running < load.consumers:
            self.jobs = max(1, min(int(HORIZON * started / seconds), most))
        self._running = load.running
        self._something_waited = load.waiting > 0 and load.running < load.consumers

    def part_of(self, room: int, waiting: int) -> int:
        """How many of ``room`` jobs to ask for now. One at least: a free consumer must not stay without a claim."""
        return min(room, max(1, self.jobs - waiting))
