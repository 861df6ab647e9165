"""The ground of the machine: it runs one world, keeps what led to a violation, and drains at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from . import member as shipped_member
from .ledger import Violation
from .rounds import drain
from .server import Server
from .world import Op, Program, World

SLOT = st.integers(0, 2)
LANE = st.sampled_from("aab" + "u")
HOWS = ["ok", "ok", "ok", "result", "retry", "retry_later", "dead", "free"]
HOW = st.sampled_from(HOWS)
FATES = ["lost_request", "lost_reply", "lost_reply", "lost_between", "late", "limbo", "limbo", "dup"]
FATE = st.sampled_from(FATES)


class Driver(RuleBasedStateMachine):
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

    def teardown(self) -> None:
        if not self.broken:
            try:
                drain(self.world)
            except Violation as violation:
                self.failed.append((violation.promise, list(self.world.log)))
                raise
        self.totals.update(self.world.book.events)
        self.totals.update({"examples": 1, "steps": self.steps, "virtual seconds": self.world.now // 1000})
