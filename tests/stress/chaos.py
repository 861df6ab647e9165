"""Does the faults of a plan, and writes down each with its real times."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import redis
import trio

from flowq.backends.redis import scripts
from flowq.backends.redis.script import Script
from tests.stress.fleet import Fleet, Slot
from tests.stress.logbook import Log
from tests.stress.plan import Fault
from tests.stress.proxy import Link
from tests.stress.server import Server

STORM_PERIOD = 0.05
TRAP_PATIENCE = 2.0
"""Seconds until a trap that nothing sprang becomes a plain kill."""
SPARE = 2
"""Workers that are left alone at any moment."""


class Chaos:
    """Hurts a fleet and its server."""

    def __init__(
        self, fleet: Fleet, server: Server, producer: Link, tell: Callable[[str], Awaitable[None]], events: Log, *, seed: int,
        loses: bool,
    ) -> None:  # fmt: skip
        self._loses = loses
        self._fleet = fleet
        self._server = server
        self._producer = producer
        self._tell = tell
        self._events = events
        self._chance = random.Random(f"{seed} victims")
        version = server.version()
        self._claim, self._settle = _sha(scripts.CLAIM, version), _sha(scripts.SETTLE, version)
        self._on_worker: dict[str, Callable[[Slot, float], Awaitable[None]]] = {
            "kill": self._kill,
            "kill before start": partial(self._trap, "before start", self._claim, "reply"),
            "kill before settle": partial(self._trap, "before settle", self._settle, "request"),
            "kill after settle": partial(self._trap, "after settle", self._settle, "reply"),
            "term": self._term,
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
            "refuse": self._link(lambda link, s: link.refuse(s), "refuse"),
            "cut reply": partial(self._cut, "down", "half"),
            "lose reply": partial(self._cut, "down", "none"),
            "cut request": partial(self._cut, "up", "half"),
            "lose request": partial(self._cut, "up", "none"),
        }
        self._elsewhere: dict[str, Callable[[float], Awaitable[None]]] = {
            "server": self._restart,
            "pause": self._pause,
            "storm": self._storm,
            "clock forward": partial(self._step, 3600.0),
            "clock back": partial(self._step, -3600.0),
            "poison": partial(self._submit, "poison"),
            "hog": partial(self._submit, "hog"),
            "lose submit reply": self._lose_submit_reply,
        }

    async def run(self, plan: list[Fault]) -> None:
        """Do them all, each at its time; those that last run beside the next ones."""
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in plan:
                await trio.sleep_until(begin + fault.at)
                nursery.start_soon(self._do, fault)

    async def _do(self, fault: Fault) -> None:
        if fault.kind in self._on_worker:
            await self._hurt(fault)
        else:
            await self._elsewhere[fault.kind](fault.seconds)

    async def _hurt(self, fault: Fault) -> None:
        """Choose a worker that nothing else is being done to, and that has been there for a moment."""
        free = [slot for slot in self._fleet.slots if not slot.busy and not slot.reaped.is_set()]
        grown = [slot for slot in free if time.monotonic() - slot.born > 1.5]
        if len(free) <= SPARE or not grown:
            return
        slot = self._chance.choice(grown)
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
        trap = slot.link.set_trap(script, moment, lambda held: self._fleet.kill(slot, how, held))
        with trio.move_on_after(TRAP_PATIENCE):
            await trap.sprung.wait()
        slot.link.trap = None
        if not trap.sprung.is_set() and not slot.reaped.is_set():
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

    # --- the server -------------------------------------------------------------------------------------------------------

    async def _restart(self, seconds: float) -> None:
        at = time.monotonic()
        self._server.kill()
        if self._loses:
            # from a single write up to half a second's
            self._server.lose_tail(round(10 ** self._chance.uniform(2.3, 5.6)))
        await trio.sleep(seconds)
        until = await self._server.start()
        self._events.event(
            "server", at=at, until=until, how="SIGKILL, tail lost" if self._loses else "SIGKILL"
        )

    async def _pause(self, seconds: float) -> None:
        at = time.monotonic()
        with self._server.client() as client, suppress(redis.RedisError):
            client.execute_command("CLIENT", "PAUSE", round(seconds * 1000), "ALL")
        await trio.sleep(seconds)
        self._events.event("pause", at=at, until=time.monotonic(), how="CLIENT PAUSE")

    async def _storm(self, seconds: float) -> None:
        at = time.monotonic()
        killed = 0
        while time.monotonic() - at < seconds:
            with self._server.client() as client, suppress(redis.RedisError):
                killed += int(str(client.execute_command("CLIENT", "KILL", "TYPE", "normal")))
            await trio.sleep(STORM_PERIOD)
        self._events.event("storm", at=at, until=time.monotonic(), how=f"CLIENT KILL, {killed} connections")

    async def _step(self, by: float, _: float) -> None:
        self._server.step_clock(by)
        self._events.event("clock", at=time.monotonic(), how=f"{by:+.0f} s")
        await trio.lowlevel.checkpoint()

    # --- the producer -----------------------------------------------------------------------------------------------------

    async def _submit(self, task: str, seconds: float) -> None:
        self._events.event(task, at=time.monotonic())
        await self._tell(f"{task} {seconds}" if seconds else task)

    async def _lose_submit_reply(self, _: float) -> None:
        self._producer.cut_next("down", "none")
        self._events.event("submit", at=time.monotonic(), how="reply lost")
        await trio.lowlevel.checkpoint()


def _sha(script: Script, version: tuple[int, int, int]) -> bytes:
    return hashlib.sha1(script.text_for(version).encode()).hexdigest().encode()
