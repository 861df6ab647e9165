"""Does the faults of a plan, and writes down each with its real times."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import trio

from flowq.backends.redis import scripts
from tests.stress import wire
from tests.stress.fleet import Fleet, Slot
from tests.stress.logbook import Follow, Log
from tests.stress.plan import Fault
from tests.stress.proxy import Link, Trap
from tests.stress.server import Server
from tests.stress.server_faults import ServerFaults
from tests.stress.victims import Victims

TRAP_PATIENCE = 2.0
"""Seconds until a trap that nothing sprang becomes a plain kill."""


class Chaos:
    """Hurts a fleet and its server."""

    def __init__(
        self, fleet: Fleet, server: Server, producer: Link, tell: Callable[[str], Awaitable[None]], events: Log, *, seed: int,
        ttl: float, loses: bool,
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._server = server
        self._producer = producer
        self._tell = tell
        self._events = events
        self._victims = Victims(fleet, seed)
        hurts = ServerFaults(server, self._victims, events, seed=seed, ttl=ttl)
        version = server.version()
        self._claim, self._settle = wire.sha(scripts.CLAIM, version), wire.sha(scripts.SETTLE, version)
        self._mine, self._stored = wire.sha(scripts.MINE, version), wire.sha(scripts.SUBMIT, version)
        self._on_worker: dict[str, Callable[[Slot, float], Awaitable[None]]] = {
            "kill": self._kill,
            "kill before start": partial(self._trap, "before start", self._claim, "reply"),
            "kill before settle": partial(self._trap, "before settle", self._settle, "request"),
            "kill after settle": partial(self._trap, "after settle", self._settle, "reply"),
            "term": self._term,
            "term twice": self._term_twice,
            "kill the supervisor": self._kill_supervisor,
            "stop past the lease": self._stop,
            "stop for a moment": self._stop,
            "slow": self._link(lambda link, s: link.slow(s, 0.05), "slow"),
            "trickle": self._link(lambda link, s: link.trickle(s), "trickle"),
            "silence": self._link(lambda link, s: link.silence(s, reset=True), "silence"),
            "late silence": self._link(lambda link, s: link.silence(s, reset=False), "late silence"),
            "partition": self._link(lambda link, s: link.silence(s, reset=True), "partition"),
            # what was sent into it arrives when others have long taken over: settles of a delivery that was lost
            "late partition": self._link(lambda link, s: link.silence(s, reset=False), "late partition"),
            "late settle": self._late_settle,
            "late claim": self._late_claim,
            "lose grants": self._lose_grants,
            "refuse": self._link(lambda link, s: link.refuse(s), "refuse"),
            "cut reply": partial(self._cut, "down", "half"),
            "lose reply": partial(self._cut, "down", "none"),
            "cut request": partial(self._cut, "up", "half"),
            "lose request": partial(self._cut, "up", "none"),
        }
        self._elsewhere: dict[str, Callable[[float], Awaitable[None]]] = {
            **hurts.faults(loses=loses),
            "poison": partial(self._submit, "poison"),
            "hog": partial(self._submit, "hog"),
            "lose submit reply": self._lose_submit_reply,
        }

    async def run(self, plan: list[Fault]) -> None:
        """Do them all, each at its time; those that last run beside the next ones."""
        begin = trio.current_time()
        async with trio.open_nursery() as outer:
            outer.start_soon(self._server.remember)
            async with trio.open_nursery() as nursery:
                for fault in plan:
                    await trio.sleep_until(begin + fault.at)
                    nursery.start_soon(self._do, fault)
            outer.cancel_scope.cancel()

    async def _do(self, fault: Fault) -> None:
        if fault.kind in self._on_worker:
            await self._hurt(fault)
        else:
            await self._elsewhere[fault.kind](fault.seconds)

    async def _hurt(self, fault: Fault) -> None:
        slot = self._victims.choose(fault.kind)
        if slot is None:
            return
        slot.busy = True
        try:
            await self._on_worker[fault.kind](slot, fault.seconds)
        finally:
            slot.busy = False

    # --- signals ----------------------------------------------------------------------------------------------------------

    async def _kill(self, slot: Slot, _: float) -> None:
        self._fleet.kill(slot, "in the body")
        await slot.reaped.wait()

    async def _trap(
        self, how: str, script: bytes, moment: Literal["request", "reply"], slot: Slot, _: float
    ) -> None:
        if moment == "request":
            trap = Trap(script, moment, wire.call, lambda _: self._fleet.kill(slot, how))
        else:
            trap = Trap(script, moment, wire.grants, lambda held: self._fleet.kill(slot, how, held))
        if not await _sprung(slot.link, trap) and not slot.reaped.is_set():
            self._fleet.kill(slot, "in the body")
        await slot.reaped.wait()

    async def _kill_supervisor(self, slot: Slot, _: float) -> None:
        if slot.supervised:
            self._fleet.kill_supervisor(slot)
        else:
            self._fleet.kill(slot, "in the body")
        await slot.reaped.wait()

    async def _term(self, slot: Slot, _: float) -> None:
        self._fleet.tell_to_stop(slot)
        await slot.reaped.wait()

    async def _term_twice(self, slot: Slot, seconds: float) -> None:
        """The second one takes away the time that bodies have to end: their jobs are handed back."""
        self._fleet.tell_to_stop(slot)
        await trio.sleep(seconds)
        self._fleet.tell_to_stop(slot)
        await slot.reaped.wait()

    async def _stop(self, slot: Slot, seconds: float) -> None:
        pid, at = slot.pid, self._fleet.stop(slot)
        await trio.sleep(seconds)
        until = time.monotonic()
        self._fleet.go_on(slot)
        self._events.event("stop", at=at, until=until, pid=pid, slot=slot.number, how=f"{seconds:.2f} s")
        # one that was stopped past its lease is let alone until it has come back
        await trio.sleep(1.0)

    # --- lines ------------------------------------------------------------------------------------------------------------

    def _link(
        self, spoil: Callable[[Link, float], Awaitable[None]], how: str
    ) -> Callable[[Slot, float], Awaitable[None]]:
        async def hurt(slot: Slot, seconds: float) -> None:
            at, pid = time.monotonic(), slot.pid
            await spoil(slot.link, seconds)
            self._events.event("link", at=at, until=time.monotonic(), pid=pid, slot=slot.number, how=how)

        return hurt

    async def _cut(
        self, way: Literal["up", "down"], what: Literal["half", "none"], slot: Slot, _: float
    ) -> None:
        slot.link.cut_next(way, what)
        name = f"{'request' if way == 'up' else 'reply'} {'cut' if what == 'half' else 'lost'}"
        self._events.event("link", at=time.monotonic(), pid=slot.pid, slot=slot.number, how=name)

    # --- what arrives late, or never --------------------------------------------------------------------------------------

    async def _late_settle(self, slot: Slot, patience: float) -> None:
        """The worker is cut off in the very moment in which it tells of a job's success, which arrives when another one runs the job."""
        link, pid, bodies = slot.link, slot.pid, Follow(self._fleet.bodies)
        trap = Trap(self._settle, "request", wire.done, lambda _: link.shut(), then="late")
        if not await _sprung(link, trap):
            return
        at, how = time.monotonic(), "settle arrived late"
        with trio.move_on_after(patience):
            await bodies.wait_start(trap.found)
            how = "settle arrived while its job ran elsewhere"
        trap.free.set()
        await trap.arrived.wait()
        link.reopen(reset=True)
        self._events.event("link", at=at, until=time.monotonic(), pid=pid, slot=slot.number, how=how)

    async def _late_claim(self, slot: Slot, patience: float) -> None:
        """The connection ends while a claim is under way on it, and that claim arrives when the worker has long a new one."""
        link = slot.link
        reconciled = Trap(self._mine, "reply", wire.answer, _nothing, then="pass")
        trap = Trap(self._claim, "request", wire.call, lambda _: link.set_trap(reconciled), then="late")
        if not await _sprung(link, trap):
            return
        at = time.monotonic()
        with trio.move_on_after(patience):
            await reconciled.sprung.wait()
        link.trap = None
        trap.free.set()
        await trap.arrived.wait()
        self._events.event(
            "link", at=at, pid=slot.pid, slot=slot.number, how="claim arrived after its connection"
        )

    async def _lose_grants(self, slot: Slot, _: float) -> None:
        """The reply that grants jobs is lost, and the worker lives on."""
        trap = Trap(self._claim, "reply", wire.grants, _nothing)
        if await _sprung(slot.link, trap):
            self._events.event("link", at=time.monotonic(), pid=slot.pid, slot=slot.number, how="grants lost")

    # --- the producer -----------------------------------------------------------------------------------------------------

    async def _submit(self, task: str, seconds: float) -> None:
        self._events.event(task, at=time.monotonic())
        await self._tell(f"{task} {seconds}" if seconds else task)

    async def _lose_submit_reply(self, _: float) -> None:
        trap = Trap(self._stored, "reply", wire.answer, _nothing)
        if await _sprung(self._producer, trap):
            self._events.event("submit", at=time.monotonic(), how="reply lost")


async def _sprung(link: Link, trap: Trap) -> bool:
    """Set a trap; did it spring before the patience was over?"""
    link.set_trap(trap)
    with trio.move_on_after(TRAP_PATIENCE):
        await trap.sprung.wait()
    if link.trap is trap:
        link.trap = None
    return trap.sprung.is_set()


def _nothing(_: object) -> None:
    """All that matters is what becomes of the piece."""
