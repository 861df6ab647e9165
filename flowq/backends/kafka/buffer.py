"""Records of a lane that were fetched and that nobody has taken yet: bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import attrs
import msgspec


class Fetched(msgspec.Struct, frozen=True, gc=False):
    """One record, as it was fetched."""

    lane: str
    partition: int
    offset: int
    assignment: int
    value: bytes


Belongs = Callable[[Fetched], bool]


@attrs.define(eq=False)
class Buffer:
    """The records of a lane that nobody has taken yet, oldest first."""

    records: deque[Fetched] = attrs.Factory(deque)
    size: int = 0
    """Bytes."""
    full: bool = False

    def put(self, record: Fetched) -> None:
        self.records.append(record)
        self.size += len(record.value)

    def take(self, most: int) -> list[Fetched]:
        taken = [self.records.popleft() for _ in range(min(most, len(self.records)))]
        self.size -= sum(len(record.value) for record in taken)
        return taken

    def put_back(self, records: Sequence[Fetched]) -> None:
        self.records.extendleft(reversed(records))
        self.size += sum(len(record.value) for record in records)

    def drop(self, belongs: Belongs) -> None:
        self.records = deque(record for record in self.records if not belongs(record))
        self.size = sum(len(record.value) for record in self.records)

    def is_full(self, most: int, most_bytes: int) -> bool:
        """With a memory: full at the bound, open again at half of it, for each pause throws away what was read ahead."""
        share = 0.5 if self.full else 1.0
        self.full = len(self.records) >= most * share or self.size >= most_bytes * share
        return self.full
