"""A backend behind a bad line: any other one, wrapped, that fails as the way to a server fails.

What this room does: drops requests, drops replies of what was done (the fault that matters: *applied, but not heard*), lets
requests arrive late, delays, cuts, freezes; by a schedule that is asked before every call, or by hand::

    faulty = Faulty(backend, Script({("exchange", 2): DropReply()}))
    faulty.line.cut()

What it will not do: invent failures that no line has. A simulated crash of a worker is ``cut()`` first, then the cancellation of
its tasks: what its ``finally`` blocks send must reach nobody.
"""

from flowq.testing.faults.line import Line
from flowq.testing.faults.schedule import (
    Call,
    Delay,
    Dice,
    DropReply,
    DropRequest,
    Fault,
    Freeze,
    Late,
    Outage,
    Schedule,
    Script,
)
from flowq.testing.faults.wrapped import Faulty

__all__ = [
    "Call",
    "Delay",
    "Dice",
    "DropReply",
    "DropRequest",
    "Fault",
    "Faulty",
    "Freeze",
    "Late",
    "Line",
    "Outage",
    "Schedule",
    "Script",
]
