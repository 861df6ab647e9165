"""What has become of the records of one assigned partition: pure, no client, no clock.

Records are finished in any order; Kafka remembers one number per partition. So the number that is committed is the *low-water mark*,
the first offset that is not finished, and the finished ones above it travel beside it (``offset_map``).

Only what is outstanding is held, so a hole in the log (a transaction's marker, records that were deleted) costs nothing: whatever lies
below the next expected offset and is not outstanding is finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

WINDOW: Final = 10_000
"""Most offsets from the low-water mark to the newest record handed out. The finished ones among so many always fit into a commit's
metadata; a partition that reaches it is paused until its oldest job ends."""


class Arrival(Enum):
    """What to do with a record that was fetched."""

    FRESH = "fresh"
    """Hand it out."""
    FINISHED = "finished"
    """It was finished before this assignment: drop it."""
    REWOUND = "rewound"
    """The log goes on below where it was read already: another log than before (the topic was made anew, a broker lost records).
    Everything known is void; begin again here."""


class Tracker:
    """One partition, for as long as it is assigned."""

    __slots__ = ("_behind", "_changes", "_committed", "_expected", "_oldest", "_outstanding", "_window")

    def __init__(self, low: int, finished: Sequence[tuple[int, int]] = (), window: int = WINDOW) -> None:
        """Begin at ``low``, the committed offset; ``finished`` are the runs ``[start, stop)`` above it that were committed beside it."""
        self._expected = low
        self._outstanding: set[int] = set()
        self._oldest: deque[int] = deque()
        self._behind: deque[tuple[int, int]] = deque(run for run in sorted(finished) if run[1] > low)
        self._window = window
        self._changes = 0
        self._committed = 0

    @property
    def low(self) -> int:
        """The low-water mark: everything below it is finished."""
        return self._oldest[0] if self._oldest else self._expected

    @property
    def expected(self) -> int:
        """One above the newest offset that arrived."""
        return self._expected

    @property
    def outstanding(self) -> int:
        """Records handed out and not finished."""
        return len(self._outstanding)

    @property
    def is_full(self) -> bool:
        """Nothing more should be fetched until the oldest record is finished."""
        return self._expected - self.low >= self._window

    @property
    def is_dirty(self) -> bool:
        """Something was finished that is not committed."""
        return self._changes != self._committed

    @property
    def changes(self) -> int:
        """Grows with each thing that a commit would write; say to ``committed`` which one has been written."""
        return self._changes

    def arrive(self, offset: int) -> Arrival:
        """A record was fetched. Offsets between the last one and this one do not exist: they count as finished."""
        if offset < self._expected:
            return Arrival.REWOUND
        if offset > self._expected and not self._outstanding:
            self._changes += 1
        self._expected = offset + 1
        while self._behind and self._behind[0][1] <= offset:
            self._behind.popleft()
        if self._behind and self._behind[0][0] <= offset:
            if not self._outstanding:
                self._changes += 1
            return Arrival.FINISHED
        self._outstanding.add(offset)
        self._oldest.append(offset)
        return Arrival.FRESH

    def finish(self, offset: int) -> bool:
        """The record is done for good. False: it was not outstanding, and nothing changes."""
        if offset not in self._outstanding:
            return False
        self._outstanding.remove(offset)
        while self._oldest and self._oldest[0] not in self._outstanding:
            self._oldest.popleft()
        self._changes += 1
        return True

    def committed(self, changes: int) -> None:
        """The state of that many ``changes`` is on the broker."""
        self._committed = max(self._committed, changes)

    def finished_above(self) -> Iterator[tuple[int, int]]:
        """Runs ``[start, stop)`` of finished offsets above the low-water mark, ascending, with gaps between them.

        What is known from before this assignment and has not arrived again yet is among them.
        """
        start = self.low
        for offset in sorted(self._outstanding):
            if offset > start:
                yield start, offset
            start = offset + 1
        stop = self._expected
        for begin, end in self._behind:
            if begin > stop:
                if stop > start:
                    yield start, stop
                start = begin
            stop = max(stop, end)
        if stop > start > self.low:
            yield start, stop
