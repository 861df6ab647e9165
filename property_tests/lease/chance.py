"""Operations by plain chance. Hypothesis has habits (it repeats what it drew, and leaves rules out); a generator of ours has others."""

from __future__ import annotations

from random import Random

from .body import SHORT_TTL, TTL
from .driver import FATES, HOWS
from .world import Op

WORK = (("turn", 42), ("end", 12), ("end_all", 4), ("submit", 10), ("tick", 8), ("rest", 3), ("operator", 4))
"""What is drawn, and how often, while no fault is wanted."""
FAULTS = (*WORK, ("fault", 17))


def operation(r: Random, *, calm: bool) -> Op:
    """One operation. ``calm``: none that is a fault."""
    kinds = WORK if calm else FAULTS
    [kind] = r.choices([name for name, _ in kinds], [weight for _, weight in kinds])
    i, lane = r.randrange(3), r.choice("aabu")
    match kind:
        case "turn":
            fate = "ok" if calm or r.random() < 0.6 else r.choice(FATES)
            return ("turn", i, fate, r.choice([0, 0, 0, 2]))
        case "end":
            return ("end", i, r.randrange(6), r.choice(HOWS))
        case "end_all":
            return ("end_all", i, r.choice(HOWS))
        case "submit":
            delay, key = r.choice([0, 0, 0, 700]), r.choice([0, 0, 0, 1, 2])
            return ("submit", lane, r.randint(1, 6), delay, key, r.choice(["ok", "ok", "resent"]))
        case "tick":
            return ("tick", r.choice([100, 900, 900, 2500, 6000, 12_000]))
        case "rest":
            return r.choice([("rounds",), ("quiet",), ("promote",), ("status", r.randrange(20))])
        case "operator":
            return _by_the_operator(r, lane)
        case _:
            return _fault(r, i, lane)


def _by_the_operator(r: Random, lane: str) -> Op:
    what = r.choice(["limit", "pause", "resume", "resume", "reset", "cancel", "cancel", "ttl"])
    if what == "ttl":
        return ("lease_ttl", r.choice([SHORT_TTL, TTL]))
    if what == "cancel":
        return ("cancel", r.randrange(12))
    return ("control", lane, what, r.randrange(4))


def _fault(r: Random, i: int, lane: str) -> Op:
    of_a_worker: list[Op] = [
        ("deliver", i),
        ("renewed",),
        ("give_up", i),
        ("give_back", i),
        ("limbo",),
        ("limbo",),
        ("leave", i, r.choice(["ok", "limbo"])),
        ("crash", i),
        ("crash", i),
        ("pause", i),
        ("resume", i, r.choice(["", "renew", "exchange"])),
        ("resume", i, ""),
        ("cut", i),
        ("heal", i),
        ("heal", i),
        ("renew", i, r.choice(["late", "limbo", "lost_reply"])),
    ]
    of_the_server: list[Op] = [
        ("snap",),
        ("snap",),
        ("failover", r.random() < 0.3),
        ("recover",),
        ("restart",),
        ("backlog_made",),
        ("clock", r.choice([3_600_000, -3_600_000, 300, -300])),
        ("lose", r.choice(["members", "clock"])),
        ("destroy", lane),
        ("flush",) if r.random() < 0.3 else ("snap",),
    ]
    return r.choice(of_a_worker if r.random() < 0.6 else of_the_server)
