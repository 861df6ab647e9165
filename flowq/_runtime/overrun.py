"""Where a worker publishes until when its limited bodies may run, so that another process can end it if they do not leave.

``flowq run``'s supervisor makes the file, names it in ``FLOWQ_DEADLINES``, and reads it. A thread could not do its work: C code
that holds the GIL stops every thread of the process, and SIGSTOP stops them all.

Layout: ``SLOTS`` slots of ``STRIDE`` bytes, one a worker of the process; ``struct '<dI'``, then four unused bytes::

    kill_at   double   CLOCK_BOOTTIME seconds (``clock.monotonic_clock``); 0: the slot is free; infinity: no lease yet
    bodies    uint32   limited bodies that run, or deliveries that may: while the lease is held an upper bound, refreshed once a
                       turn; after it, exact

Kill when ``bodies > 0 and now > kill_at``, seen twice some milliseconds apart: each field is stored in one piece, the two
together are not.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import threading
from pathlib import Path

import attrs

VARIABLE = "FLOWQ_DEADLINES"
SLOTS = 64
STRIDE = 16
SLOT = struct.Struct("<dI")
SIZE = SLOTS * STRIDE


@attrs.frozen
class Published:
    """What a slot says."""

    slot: int
    kill_at: float
    bodies: int

    def is_overdue(self, now: float) -> bool:
        """Are limited bodies running past their time?"""
        return self.bodies > 0 and now > self.kill_at


def create(path: Path) -> None:
    """Make the file, all slots free. For the supervisor, before it starts the worker."""
    path.write_bytes(bytes(SIZE))


def read(path: Path) -> list[Published]:
    """The slots in use. For the supervisor."""
    data = path.read_bytes()
    found = []
    for slot in range(SLOTS):
        kill_at, bodies = SLOT.unpack_from(data, slot * STRIDE)
        if kill_at:
            found.append(Published(slot, kill_at, bodies))
    return found


_taking = threading.Lock()


class Publisher:
    """This worker's slot; does nothing if nobody asked for it. Several workers of one process take one each."""

    def __init__(self, path: str | None) -> None:
        self._kill_at: memoryview[float] | None = None
        self._bodies: memoryview[int] | None = None
        if path:
            with Path(path).open("r+b") as file, _taking:
                # unmapped when the last view of it is released
                self._take_slot(memoryview(mmap.mmap(file.fileno(), SIZE)))

    @property
    def is_active(self) -> bool:
        """Does anybody read what is published?"""
        return self._kill_at is not None

    @classmethod
    def from_environment(cls) -> Publisher:
        """Publishes if ``FLOWQ_DEADLINES`` names a file.

        Raises:
            OSError, ValueError: it is not there, or too small: a supervisor that cannot see must be known of.
        """
        return cls(os.environ.get(VARIABLE))

    def _take_slot(self, view: memoryview) -> None:
        for slot in range(SLOTS):
            start = slot * STRIDE
            if SLOT.unpack_from(view, start)[0] == 0:
                # casts, since pack_into writes byte by byte, and a reader could see half a number
                kill_at = view[start : start + 8].cast("d")
                kill_at[0] = math.inf
                self._kill_at, self._bodies = kill_at, view[start + 8 : start + 12].cast("I")
                return
        view.release()
        raise RuntimeError(f"all {SLOTS} slots of {VARIABLE} are taken: too many workers in one process")

    def publish(self, kill_at: float, bodies: int) -> None:
        if self._kill_at is not None and self._bodies is not None:
            self._kill_at[0] = kill_at
            self._bodies[0] = bodies

    def close(self) -> None:
        """Free the slot: no body of this worker runs."""
        if self._kill_at is None or self._bodies is None:
            return
        self._bodies[0] = 0
        self._kill_at[0] = 0.0
        self._kill_at.release()
        self._bodies.release()
        self._kill_at = self._bodies = None
