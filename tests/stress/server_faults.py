"""What is done to the server: restarts, lost writes, pauses, storms of CLIENT KILL, steps of its clock."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import redis
import trio

from tests.stress.logbook import Log
from tests.stress.server import Server
from tests.stress.victims import Victims

STORM_PERIOD = 0.05
STEP = 3600.0
"""Seconds that the server's clock goes forward or back."""
MOST_LOST = 4.0
"""Seconds whose writes a server forgets at most, as a replica forgets them that had fallen behind."""


class ServerFaults:
    """Hurts the server, and at times cuts workers off from it meanwhile."""

    def __init__(self, server: Server, victims: Victims, events: Log, *, seed: int, ttl: float) -> None:
        self._server = server
        self._victims = victims
        self._events = events
        self._ttl = ttl
        self._chance = random.Random(f"{seed} losses")

    def faults(self, *, loses: bool) -> dict[str, Callable[[float], Awaitable[None]]]:
        """By kind. ``loses``: restarts forget."""
        return {
            "server": self._lose_power if loses else self._restart,
            "pause": self._pause,
            "storm": self._storm,
            "clock forward": self._step_forward,
            "clock back": partial(self._step, -STEP),
        }

    async def _restart(self, seconds: float, lost: float = 0.0) -> None:
        at = time.monotonic()
        self._server.kill()
        if lost:
            self._server.lose_tail(lost)
        await trio.sleep(seconds)
        until = await self._server.start()
        how = f"SIGKILL, {lost:.2f} s lost" if lost else "SIGKILL"
        self._events.event("server", at=at, until=until, how=how)

    async def _lose_power(self, seconds: float) -> None:
        """A restart that forgets. Those to whom it had granted what it forgets learn of it only after their lease: they are cut off.

        Others must not run in their place before that.
        """
        lost = self._chance.uniform(0.02, MOST_LOST)
        away = self._victims.forgotten(lost)
        async with trio.open_nursery() as nursery:
            at = time.monotonic()
            for slot in away:
                slot.busy = True
                slot.link.shut()
            nursery.start_soon(self._restart, seconds, lost)
            await trio.sleep(self._ttl)
            for slot in away:
                slot.link.reopen(reset=True)
                slot.busy = False
                self._events.event(
                    "link", at=at, until=time.monotonic(), pid=slot.pid, slot=slot.number, how="partition"
                )

    async def _pause(self, seconds: float) -> None:
        await self._server.up.wait()
        at = time.monotonic()
        with self._server.client() as client, suppress(redis.RedisError):
            client.execute_command("CLIENT", "PAUSE", round(seconds * 1000), "ALL")
        await trio.sleep(seconds)
        self._events.event("pause", at=at, until=time.monotonic(), how="CLIENT PAUSE")

    async def _storm(self, seconds: float) -> None:
        await self._server.up.wait()
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

    async def _step_forward(self, seconds: float) -> None:
        """While a worker is cut off: it must not be taken at once for one whose lease is over."""
        slot = self._victims.choose("partition")
        if slot is None:
            await self._step(STEP, seconds)
            return
        slot.busy = True
        slot.link.shut()
        at = time.monotonic()
        await self._step(STEP, seconds)
        await trio.sleep(seconds)
        slot.link.reopen(reset=True)
        slot.busy = False
        self._events.event(
            "link", at=at, until=time.monotonic(), pid=slot.pid, slot=slot.number, how="partition"
        )
