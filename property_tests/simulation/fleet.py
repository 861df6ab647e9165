"""The workers of a simulation, each the real ``flowq.run`` in a scope of its own, and what can befall one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

import flowq
from flowq.testing.faults import Call, Fault

from .app import SimulatedApp
from .gate import Gait, Gate
from .history import CallFailed, Crashed, CutOff, Died, Frozen, History, Thawed
from .place import WatchedServer
from .plan import CallFault, Plan

START_TIMEOUT = 120.0
GRACE = 8.0
"""Seconds that bodies get in a drain that nobody hurries."""


def _nothing(_blow: CallFault) -> None:
    """The client is not struck."""


@attrs.define(eq=False)
class Faults:
    """The schedule of one process's lines; ``is_over`` ends it, and counts go on."""

    who: str
    history: History
    faults: Sequence[CallFault]
    strike: Callable[[CallFault], None] = _nothing
    """Does to the whole process what the fault asks for."""
    is_over: bool = False
    asked: Counter[str] = attrs.Factory(Counter[str])
    """Calls while faults were possible, by name."""
    after: dict[str, CallFault] = attrs.Factory(dict[str, CallFault])
    """What strikes when the server has done this."""

    def fault(self, call: Call) -> Fault | None:
        if self.is_over:
            return None
        self.asked[call.name] += 1
        found = next((one for one in self.faults if (one.call, one.number) == (call.name, call.number)), None)
        if found is None:
            return None
        self.history.add(CallFailed(self.history.now(), self.who, call.name, call.number, found.kind))
        if found.kind.endswith("_after"):
            self.after[call.name] = found
        elif found.blow:
            self.strike(found)
        return found.fault()

    def done(self, name: str) -> None:
        """The server has done a call of this name for this process."""
        found = self.after.pop(name, None)
        if found is not None:
            self.strike(found)


class Hand:
    """One worker: a process, as far as a simulation has processes."""

    def __init__(self, name: str, app: SimulatedApp, faults: Faults) -> None:
        self.name = name
        self.app = app
        self.faults = faults
        self.scope = trio.CancelScope()
        self.gait: Gait | None = None
        self.worker: flowq.Worker | None = None
        self.is_up = True
        """Its ``run`` has not returned."""
        self.is_leaving = False

    def started(self, value: flowq.Worker | None = None) -> None:
        """As the ``task_status`` of its ``run``."""
        self.worker = value


class Fleet:
    """All workers of a simulation, by slots: one at a time in each."""

    def __init__(
        self,
        server: WatchedServer,
        history: History,
        counts: Counter[str],
        gate: Gate,
        nursery: trio.Nursery,
        plan: Plan,
    ) -> None:
        self._server = server
        self._history = history
        self._counts = counts
        self._gate = gate
        self._nursery = nursery
        self._plan = plan
        self._lives: dict[int, int] = {}
        self.slots: dict[int, Hand] = {}
        self.hands: list[Hand] = []

    def start(self, slot: int, faults: Sequence[CallFault]) -> Hand | None:
        """A new worker in this slot, unless one is there."""
        if slot in self.slots and self.slots[slot].is_up:
            return None
        self._lives[slot] = life = self._lives.get(slot, 0) + 1
        name = f"w{slot}.{life}"
        schedule = Faults(name, self._history, faults if life == 1 else [])
        app = SimulatedApp(name, self._server, self._history, self._counts, schedule, self._plan.ttl)
        hand = self.slots[slot] = Hand(name, app, schedule)
        schedule.strike = partial(self._strike, hand)
        self.hands.append(hand)
        self._nursery.start_soon(self._live, hand, name=f"worker {name}")
        return hand

    async def _live(self, hand: Hand) -> None:
        hand.gait = self._gate.adopt(hand)
        if hand.name in self._plan.kills:
            self._gate.ring_at(hand.gait, self._plan.kills[hand.name], partial(self.crash, hand))
        try:
            with hand.scope:
                await flowq.run(
                    hand.app,
                    concurrency=self._plan.concurrency,
                    grace=GRACE,
                    start_timeout=START_TIMEOUT,
                    task_status=hand,
                )
        except Exception as exc:  # noqa: BLE001 - whatever it is, the checker must see it
            if hand.name not in self._history.crashed:
                self._history.add(Died(self._history.now(), hand.name, f"{type(exc).__name__}: {exc}"))
        finally:
            hand.is_up = False

    def at(self, slot: int) -> Hand | None:
        """Who stands there and has not been told to end."""
        hand = self.slots.get(slot)
        return hand if hand is not None and hand.is_up and hand.name not in self._history.crashed else None

    def _strike(self, hand: Hand, blow: CallFault) -> None:
        if blow.blow == "crash":
            self.crash(hand)
        else:
            self.cut(hand, blow.seconds)

    # --- what can befall one ------------------------------------------------------------------------------------------------

    def crash(self, hand: Hand) -> None:
        """SIGKILL: from now on nothing of it reaches anybody. Its tasks unwind unseen."""
        if not hand.is_up or hand.name in self._history.crashed:
            return
        self._history.add(Crashed(self._history.now(), hand.name))
        hand.app.dead = True
        for line in hand.app.lines:
            line.mend()
            line.cut()
        if hand.gait is not None:
            self._gate.thaw(hand.gait)
        hand.scope.cancel()

    def crash_after(self, hand: Hand, steps: int) -> None:
        """The same after so many further steps of its tasks."""
        if hand.gait is not None and steps:
            self._gate.ring_at(hand.gait, steps, partial(self.crash, hand))
        else:
            self.crash(hand)

    def freeze(self, hand: Hand, seconds: float, *, but_keeper: bool) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        gait = hand.gait
        if gait is None or gait.frozen:
            return
        self._gate.freeze(gait, but_keeper=but_keeper)
        self._history.add(Frozen(self._history.now(), hand.name, seconds, but_keeper))
        self._nursery.start_soon(self._thaw_after, hand, seconds)

    async def _thaw_after(self, hand: Hand, seconds: float) -> None:
        await trio.sleep(seconds)
        self.thaw(hand)

    def thaw(self, hand: Hand) -> None:
        if hand.gait is not None and hand.gait.frozen:
            self._history.add(Thawed(self._history.now(), hand.name))
            self._gate.thaw(hand.gait)

    def cut(self, hand: Hand, seconds: float) -> None:
        """Its connections break, and new ones cannot be made for so long."""
        self._history.add(CutOff(self._history.now(), hand.name, seconds))
        for line in hand.app.lines:
            line.cut(seconds)

    def hang(self, hand: Hand, seconds: float) -> None:
        self._history.add(CutOff(self._history.now(), hand.name, seconds))
        for line in hand.app.lines:
            line.freeze(seconds)

    def drain(self, hand: Hand, grace: float) -> None:
        if hand.worker is not None:
            hand.is_leaving = True
            self._nursery.start_soon(partial(hand.worker.drain, grace=grace))

    # --- the end ------------------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """No fault from here on, for anybody."""
        self._gate.is_watching = False
        for hand in self.hands:
            hand.faults.is_over = True
            if hand.gait is not None:
                hand.gait.alarms.clear()
            self.thaw(hand)
            if hand.name not in self._history.crashed:
                for line in hand.app.lines:
                    line.mend()

    @property
    def up(self) -> list[Hand]:
        """Who serves, or unwinds."""
        return [hand for hand in self.hands if hand.is_up]
