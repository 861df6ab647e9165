"""What has become of one partition's records, for as long as this worker has it.

Records end in any order; Kafka commits one offset. The tracker knows which offsets have not ended, what the lowest of them is, and what
stands in the commit for those above (``offset_map``). Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from flowq.backends.kafka import offset_map

WINDOW = 16_384
"""Offsets from the lowest unfinished one to the highest seen: so many fit into a commit's metadata whatever their order of ending."""


class Tracker:
    """See the module.

    Args:
        committed: the partition's committed offset, where reading begins.
        metadata: of that commit.
        window: how wide it may get before ``is_full``.
    """

    def __init__(self, committed: int, metadata: str = "", *, window: int = WINDOW) -> None:
        self._window = window
        self._end, unfinished = offset_map.decode(committed, metadata)
        self._open = OrderedDict.fromkeys(unfinished)
        """Ascending offsets that have not ended."""
        self._again = deque(unfinished)
        """Those of a former life that have not been read again yet."""
        self._position = committed
        self._committed = (committed, metadata)

    @property
    def low(self) -> int:
        """All offsets below it have ended."""
        return next(iter(self._open), self._end)

    @property
    def is_full(self) -> bool:
        """No more may be read until the lowest one has ended."""
        return self._end - self.low >= self._window

    @property
    def outstanding(self) -> int:
        """Records that have not ended."""
        return len(self._open)

    def read(self, offset: int) -> bool:
        """A record was read: must it run? Not if it ended in a former life.

        Offsets that were passed over are holes in the log (transaction markers, deleted records): there is nothing to wait for.
        """
        if offset < self._position:
            return False  # read already: the client sought back
        while self._again and self._again[0] <= offset:
            before = self._again.popleft()
            if before < offset:
                del self._open[before]
        self._position = offset + 1
        if offset < self._end:
            if offset not in self._open:
                return False
        else:
            self._end = offset + 1
        self._open[offset] = None
        return True

    def finish(self, offset: int) -> None:
        """A record has ended. One that had ended before changes nothing."""
        self._open.pop(offset, None)

    def commit(self) -> tuple[int, str] | None:
        """What to commit now, offset and metadata; None: nothing new since ``committed`` was told."""
        low = self.low
        wanted = (low, offset_map.encode(low, self._end, list(self._open)))
        return None if wanted == self._committed else wanted

    def committed(self, offset: int, metadata: str) -> None:
        """The broker has this commit."""
        self._committed = (offset, metadata)
