"""Draws programs: a Hypothesis state machine whose rules are operations of ``World``.

The generator is the trap (RELIABILITY 2.10): many fine rules of equal weight start almost no body. So: work has three rules of
seven, faults are one rule with a kind, and rare conjunctions are macros, sequences of operations in a fixed order with drawn gaps.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from .chance import operation
from .driver import FATE, HOW, LANE, SLOT
from .macros import Macros


class LeaseMachine(Macros):
    """One example is one world's life, and its drain."""

    @initialize(
        a=st.integers(1, 5),
        b=st.integers(0, 2),
        u=st.integers(0, 3),
        who=st.sets(SLOT, min_size=2),
        calm=st.sampled_from(["", "", "", "a", "u"]),
    )
    def preload(self, a: int, b: int, u: int, who: set[int], calm: str) -> None:
        """Work and workers; now and then a fleet that nothing befalls at first, where every wake-up must come by rings."""
        if calm:
            self.all_of([*[("turn", i) for i in (*who, *who)], ("submit", calm, a + u), ("quiet",)])
            self.all_of([("end", self.busy(0), 0, "ok"), ("quiet",)])
        for lane, n in (("a", a), ("b", b), ("u", u)):
            if n:
                self.do("submit", lane, n)
        for i in sorted(who):
            self.all_of([("turn", i), ("turn", i)])

    # --- work

    @rule(i=SLOT, extra=st.sampled_from([0, 0, 0, 2]))
    def turns(self, i: int, extra: int) -> None:
        self.fresh(i)
        self.do("turn", i, "ok", extra)

    @rule(
        i=SLOT,
        k=st.integers(0, 5),
        how=HOW,
        then=st.sampled_from(["ok", "ok", "lost_reply", "late", "limbo"]),
    )
    def ends(self, i: int, k: int, how: str, then: str) -> None:
        i = self.busy(i)
        self.all_of([("end", i, k, how), ("turn", i, then)])

    @rule(i=SLOT, how=HOW, more=HOW, then=st.sampled_from(["ok", "ok", "dup", "lost_between"]))
    def all_end(self, i: int, how: str, more: str, then: str) -> None:
        i = self.busy(i)
        self.all_of([("end", i, 0, more), ("end_all", i, how), ("turn", i, then)])

    @rule(
        i=SLOT,
        lane=LANE,
        n=st.integers(1, 6),
        what=st.sampled_from(["", "", "delay", "key", "both", "resent"]),
    )
    def submits(self, i: int, lane: str, n: int, what: str) -> None:
        delay = 700 if what in ("delay", "both") else 0
        self.do(
            "submit",
            lane,
            n,
            delay,
            1 if what in ("key", "both") else 0,
            "resent" if what == "resent" else "ok",
        )
        self.do("turn", i)

    # a name more is a chance more: one macro is worth many of these
    turns_2, ends_2, all_end_2, submits_2 = turns, ends, all_end, submits

    @rule(i=SLOT, how=HOW, fate=st.sampled_from(["ok", "ok", "lost_reply", "limbo"]), back=st.booleans())
    def leaves(self, i: int, how: str, fate: str, back: bool) -> None:
        """A clean end; its pool may be gone with it, and come back."""
        self.all_of(
            [("give_back", i), ("end_all", i, how), ("control", "a", "pause"), ("control", "u", "pause")]
        )
        self.all_of([("turn", i), ("end_all", i, "free"), ("turn", i), ("leave", i, fate)])
        self.all_of([("control", "a", "resume"), ("control", "u", "resume")])
        if back:
            self.fresh(i)
        self.do("limbo")

    @rule(seed=st.integers(0, 2**32), n=st.integers(5, 40), faults=st.sampled_from([0.0, 0.3, 1.0]))
    def chance(self, seed: int, n: int, faults: float) -> None:
        """Operations by plain chance, with no, few or many faults among them."""
        r = Random(seed)
        for _ in range(n):
            self.do(*operation(r, calm=r.random() >= faults))

    # --- time

    @rule(ms=st.sampled_from([100, 900, 2500, 6000, 12_000]), i=SLOT)
    def time(self, ms: int, i: int) -> None:
        self.all_of([("tick", ms), ("turn", i)])

    @rule(which=st.sampled_from(["rounds", "quiet"]), i=SLOT, n=st.integers(0, 3))
    def settles_down(self, which: str, i: int, n: int) -> None:
        if n:
            self.do("submit", "a", n)
        self.all_of([("end", i, 0, "ok"), (which,)])

    # --- faults

    @rule(
        kind=st.sampled_from(
            [
                "turn",
                "turn",
                "renew",
                "renew",
                "renewal_arrives",
                "crash",
                "pause",
                "resume",
                "resume",
                "cut",
                "heal",
                "leave",
                "late",
                "give_up",
                "limbo",
                "limbo",
                "clock",
                "clock",
                "snap",
                "snap",
                "failover",
                "failover",
                "recover",
                "restart",
                "backlog",
                "flush",
                "members",
                "clock_key",
                "destroy",
                "limit",
                "limit",
                "pause_lane",
                "resume_lane",
                "reset",
                "cancel",
                "cancel",
                "cancel",
                "status",
                "status",
                "status",
                "give_back",
                "promote",
            ]
        ),
        i=SLOT,
        n=st.integers(0, 3),
        lane=LANE,
        fate=FATE,
    )
    def fault(self, kind: str, i: int, n: int, lane: str, fate: str) -> None:
        match kind:
            case "turn":
                self.do("turn", i, fate)
            case "renew":
                self.do("renew", i, ("lost_reply", "limbo", "late", "late")[n])
            case "renewal_arrives":
                self.do("renewed")
            case "crash" | "pause" | "cut" | "heal" | "leave" | "give_up" | "give_back":
                self.do(kind, i)
            case "resume":
                self.do("resume", i, ("", "renew", "exchange", "")[n])
            case "late":
                self.do("deliver", i)
            case "clock":
                self.do("clock", (3_600_000, -3_600_000, 300, -300)[n])
            case "failover":
                self.do("failover", n == 0)
            case "backlog":
                self.do("backlog_made")
            case "members":
                self.do("lose", "members")
            case "clock_key":
                self.do("lose", "clock")
            case "destroy":
                self.do("destroy", lane)
            case "limit":
                self.do("control", lane, "limit", n)
            case "pause_lane" | "resume_lane" | "reset":
                self.do("control", lane, kind.removesuffix("_lane"))
            case "cancel" | "status":
                self.do(kind, n + 4 * i)
            case _:
                self.do(kind)

    fault_2, fault_3, fault_4, fault_5 = fault, fault, fault, fault
    chance_2 = chance
