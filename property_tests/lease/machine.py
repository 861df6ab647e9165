"""Draws programs: a Hypothesis state machine whose rules are operations of ``World``.

The generator is the trap (RELIABILITY 2.10): many fine rules of equal weight start almost no body. So: work has three rules of
seven, faults are one rule with a kind, and rare conjunctions are macros, sequences of operations in a fixed order with drawn gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from . import member as shipped_member
from .ledger import Violation
from .operations import drain
from .server import Server
from .world import Op, Program, World

SLOT = st.integers(0, 2)
LANE = st.sampled_from("aab" + "u")
HOW = st.sampled_from(["ok", "ok", "ok", "result", "retry", "retry_later", "dead", "free"])
FATE = st.sampled_from(["lost_request", "lost_reply", "lost_reply", "lost_between", "late", "limbo", "limbo", "dup"])


class LeaseMachine(RuleBasedStateMachine):
    """One example is one world's life, and its drain."""

    server: ClassVar[Server]
    members: ClassVar[ModuleType] = shipped_member
    totals: ClassVar[Counter[str]] = Counter()
    failed: ClassVar[list[tuple[str, Program]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.server, self.members)
        self.steps = 0
        self.broken = False

    def do(self, *op: Any) -> None:
        """One operation. A violation is kept with the program that led to it."""
        try:
            self.steps += self.world.apply(op)
        except Violation as violation:
            self.broken = True
            self.failed.append((violation.promise, list(self.world.log)))
            raise

    def all_of(self, ops: Iterable[Op]) -> None:
        for op in ops:
            self.do(*op)

    def fresh(self, *slots: int) -> None:
        """Let these workers do what they must before they can claim, then claim."""
        for i in slots:
            for _ in range(5):
                w = self.world.workers[i]
                last = bool(w.id) and w.greeted and w.confirmed and w.reconciled
                self.do("turn", i)
                if last:
                    break

    def busy(self, i: int) -> int:
        """Worker i, or the next one that runs something."""
        workers = self.world.workers
        order = [(i + step) % 3 for step in range(3)]
        return next((k for k in order if workers[k].running(self.world.now) and not workers[k].paused), i % 3)

    @initialize(a=st.integers(1, 5), b=st.integers(0, 2), u=st.integers(0, 3), who=st.sets(SLOT, min_size=2))
    def preload(self, a: int, b: int, u: int, who: set[int]) -> None:
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

    @rule(i=SLOT, k=st.integers(0, 5), how=HOW, then=st.sampled_from(["ok", "ok", "lost_reply", "late", "limbo"]))
    def ends(self, i: int, k: int, how: str, then: str) -> None:
        i = self.busy(i)
        self.all_of([("end", i, k, how), ("turn", i, then)])

    @rule(i=SLOT, how=HOW, more=HOW, then=st.sampled_from(["ok", "ok", "dup", "lost_between"]))
    def all_end(self, i: int, how: str, more: str, then: str) -> None:
        i = self.busy(i)
        self.all_of([("end", i, 0, more), ("end_all", i, how), ("turn", i, then)])

    @rule(i=SLOT, lane=LANE, n=st.integers(1, 6), what=st.sampled_from(["", "", "delay", "key", "both", "resent"]))
    def submits(self, i: int, lane: str, n: int, what: str) -> None:
        delay = 700 if what in ("delay", "both") else 0
        self.do("submit", lane, n, delay, 1 if what in ("key", "both") else 0, "resent" if what == "resent" else "ok")
        self.do("turn", i)

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
            "turn turn renew renew renewal_arrives crash pause resume resume cut heal leave late give_up limbo limbo clock clock snap snap "
            "failover failover restart backlog flush members clock_key destroy limit limit pause_lane resume_lane reset "
            "cancel cancel cancel give_back promote".split()
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
            case "cancel":
                self.do("cancel", n)
            case _:
                self.do(kind)

    # --- macros: conjunctions that chance does not find

    @rule(i=SLOT, j=SLOT, first=st.sampled_from(["", "renew", "exchange"]), limbo=st.booleans())
    def paused_past_its_lease(self, i: int, j: int, first: str, limbo: bool) -> None:
        self.fresh(i)
        if limbo:
            self.do("turn", i, "limbo")
        self.all_of([("pause", i), ("tick", 12_000)])
        if j != i:
            self.fresh(j)
        self.all_of([("resume", i, first), ("limbo",), ("turn", i), ("deliver", i)])

    @rule(lanes=st.lists(LANE, min_size=1, max_size=2), times=st.integers(2, 4))
    def poison(self, lanes: list[str], times: int) -> None:
        """Whoever takes it dies."""
        for lane in lanes:
            self.do("submit", lane, 2)
        for _ in range(times):
            self.fresh(0)
            self.all_of([("crash", 0), ("crash", 2), ("tick", 6000), ("turn", 1), ("tick", 6000)])

    @rule(i=SLOT, j=SLOT, gap=st.sampled_from([0, 3000, 6000]), how=HOW, late=st.booleans(), n=st.integers(1, 2))
    def failover_while_running(self, i: int, j: int, gap: int, how: str, late: bool, n: int) -> None:
        """The replica knows an older lease, or older owners; it may be promoted twice."""
        self.all_of([("turn", j), ("snap",), ("end", j, 0, how), ("turn", j), ("tick", gap), ("turn", i, "late" if late else "ok")])
        for _ in range(n):
            self.do("failover")
            self.do("deliver", i)
            self.fresh(j, i)
        self.all_of([("tick", 6000), ("turn", j)])

    @rule(i=SLOT, j=SLOT, loss=st.sampled_from(["members", "clock", "destroy", "flush", "restart"]), lane=LANE)
    def loss_while_running(self, i: int, j: int, loss: str, lane: str) -> None:
        self.fresh(i)
        self.do(*{"destroy": ("destroy", lane), "flush": ("flush",), "restart": ("restart",)}.get(loss, ("lose", loss)))
        self.do("submit", lane, 3)
        self.fresh(j)

    @rule(i=SLOT, n=st.integers(0, 2), lane=LANE)
    def claim_outlives_its_connection(self, i: int, n: int, lane: str) -> None:
        self.all_of([("submit", lane, 2), ("turn", i, "limbo")])
        for _ in range(n + 1):
            self.do("turn", i)
        self.all_of([("limbo",), ("quiet",)])

    @rule(i=SLOT, k=st.integers(0, 2), fate=st.sampled_from(["lost_reply", "lost_between", "limbo", "late"]))
    def released_and_taken_again(self, i: int, k: int, fate: str) -> None:
        """The resend of a release must not hit the delivery that came after it."""
        self.all_of([("end", i, k, "free"), ("turn", i, fate), ("turn", i), ("deliver", i), ("turn", i), ("turn", i), ("limbo",)])

    @rule(i=SLOT, ms=st.sampled_from([3_600_000, 300]), gap=st.sampled_from([0, 4000]))
    def clock_jumps_while_running(self, i: int, ms: int, gap: int) -> None:
        self.all_of([("turn", i), ("cut", i), ("tick", gap), ("clock", ms), ("tick", 800)])
        self.fresh((i + 1) % 3)
        self.all_of([("tick", 4000), ("turn", (i + 1) % 3), ("heal", i)])

    @rule(i=SLOT, lane=LANE, n=st.integers(0, 2))
    def limit_is_lowered_and_holder_dies(self, i: int, lane: str, n: int) -> None:
        self.fresh(i)
        self.all_of([("control", lane, "limit", n), ("cut", i), ("tick", 12_000)])
        self.fresh((i + 1) % 3)
        self.all_of([("heal", i), ("turn", i)])

    @rule(i=SLOT, ms=st.sampled_from([3000, 6400]), back=st.booleans())
    def renewal_is_late(self, i: int, ms: int, back: bool) -> None:
        """Its reply takes nearly a lease; then the worker is alone."""
        self.fresh(i)
        self.all_of([("renew", i, "late"), ("cut", i), ("tick", ms), ("renewed",), ("tick", 4800)])
        self.fresh((i + 1) % 3)
        self.all_of([("tick", 2400), ("heal", i)] if back else [("turn", i)])

    @rule(i=SLOT, j=SLOT, die=st.booleans())
    def hunger(self, i: int, j: int, die: bool) -> None:
        """One takes all, another comes up short, and may die of it."""
        self.do("submit", "a", 4)
        self.fresh(i)
        self.fresh(j)
        if die:
            self.do("crash", j)
        self.all_of([("end", i, 0, "ok"), ("tick", 1600 if die else 0), ("turn", i), ("end", i, 0, "ok"), ("turn", i)])

    @rule(i=SLOT, limit=st.integers(1, 4), others=st.integers(0, 6), n=st.integers(2, 6), end=st.booleans())
    def tokens_are_shared(self, i: int, limit: int, others: int, n: int, end: bool) -> None:
        """One is busy with other lanes, two want more of one lane than there is: no token may be idle for fairness' sake."""
        self.do("control", "a", "limit", limit)
        if others:
            self.do("submit", "u", others)
        self.fresh(i)
        self.do("submit", "a", n)
        self.fresh((i + 1) % 3, (i + 2) % 3)
        if end:
            self.do("end", self.busy(i + 1), 0, "ok")
        self.do("quiet")
        self.do("rounds")

    @rule(i=SLOT, how=HOW, loss=st.sampled_from(["destroy", "destroy", "members", "clock", "failover", "restart"]), delay=st.booleans())
    def loss_is_met_by_a_settle(self, i: int, how: str, loss: str, delay: bool) -> None:
        """The first to hear of it is a body's end, perhaps of many; nothing new is submitted."""
        if delay:
            self.do("submit", "u", 1, 700)
        self.do("submit", "u", 5)
        self.fresh(i)
        self.do(*{"destroy": ("destroy", "u"), "restart": ("restart",), "failover": ("failover",)}.get(loss, ("lose", loss)))
        self.do("end_all", i, how)
        self.do("turn", i)
        self.fresh(i)

    @rule(i=SLOT, k=st.integers(0, 3), then=st.sampled_from(["ok", "retry", "free", "crash", ""]))
    def cancelled_while_it_ends(self, i: int, k: int, then: str) -> None:
        """A job is cancelled in any of its states; its body may end before it hears of it."""
        self.do("cancel", k)
        i = self.busy(i)
        if then == "crash":
            self.all_of([("crash", i), ("tick", 12_000)])
        elif then:
            self.all_of([("end_all", i, then), ("turn", i)])
        else:
            self.do("renew", i)
        self.fresh(i)

    # --- the end

    def teardown(self) -> None:
        if not self.broken:
            try:
                drain(self.world)
            except Violation as violation:
                self.failed.append((violation.promise, list(self.world.log)))
                raise
        self.totals.update(self.world.book.events)
        self.totals.update(examples=1, steps=self.steps)
