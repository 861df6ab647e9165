"""When a dead worker process is started again, and when no more: decided here, without a clock of its own."""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

MOST_DEATHS: Final = 5
"""So many deaths within ``WINDOW`` are a crash loop: the supervisor ends, so that whoever runs it sees it."""
WINDOW: Final = 60.0
"""Seconds."""
FIRST_WAIT: Final = 0.5
"""Seconds before the first restart; each further one in a row waits twice as long."""
LONGEST_WAIT: Final = 30.0


@attrs.define
class Deaths:
    """The deaths of all worker processes of one supervisor that nobody asked for."""

    _times: deque[float] = attrs.field(factory=deque[float])

    def count(self, now: float) -> bool:
        """Note one more death. True: it is a crash loop."""
        self._times.append(now)
        while now - self._times[0] > WINDOW:
            self._times.popleft()
        return len(self._times) >= MOST_DEATHS


@attrs.define
class Restarts:
    """The restarts of one worker process: exponential backoff, forgotten after it lived for ``WINDOW``."""

    _in_a_row: int = 0

    def wait(self, lived: float) -> float:
        """Seconds to wait before the next start of a process that lived for so many seconds."""
        if lived >= WINDOW:
            self._in_a_row = 0
        pause = min(LONGEST_WAIT, FIRST_WAIT * 2.0**self._in_a_row)
        self._in_a_row += 1
        return pause
