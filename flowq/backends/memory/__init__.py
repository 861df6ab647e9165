"""Jobs in this process: the place for tests, for simulations of a whole fleet, and for trying flowq without a server.

What this room does: keeps the rules of the lease as plain sync transitions over one ``State``. It is the reference that the
Lua of the Redis backend is compared with, so it prefers the obvious to the fast. Envelopes and records are kept as the bytes
that were given, so that it cannot hide a fault of the codec. Several ``open_memory(server)`` of one ``MemoryServer`` are
several clients of one place: that is how a fleet runs in one event loop under trio's ``MockClock``.

What it will not do: outlive the process, start threads, read a clock of its own choosing, or decide anything that the contract
in ``flowq.backends.protocol`` does not ask for.

The files, in the order of a job's way::

    clock          what time it is, three ways          claim     who may start what
    rows, state    the facts                            settle    what became of it
    fleet          who is alive, how much may run       jobs      from a job's id to the job
    submit         jobs come in, now or later           audit     what must always hold
    server         all of these behind one lock         place     the four Protocols over a server
    bell           waking those who wait
"""

from flowq.backends.memory.audit import LaneCounts
from flowq.backends.memory.place import MemoryBackend, open_memory
from flowq.backends.memory.rows import DeadLetter
from flowq.backends.memory.server import Backup, MemoryServer

__all__ = ["Backup", "DeadLetter", "LaneCounts", "MemoryBackend", "MemoryServer", "open_memory"]
