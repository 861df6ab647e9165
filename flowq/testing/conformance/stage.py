"""What a check plays on: an app, its members, and time that passes for both."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from flowq._model import (
    CancelAnswer,
    Delivery,
    LanePolicy,
    Receipt,
    Record,
    Status,
    Submission,
)
from flowq.backends.protocol import Backend, MemberFacts
from flowq.testing.conformance.actor import MANY, Actor
from flowq.testing.conformance.jobs import RECORD_TTL_MS, policy, record


class Harness(Protocol):
    """What a backend brings along to be checked."""

    @property
    def ttl(self) -> float:
        """The lease of the members, seconds. Small where time is real; every wait of a check is a multiple of it."""
        ...

    async def make(self) -> Backend:
        """A client of a fresh app that nobody used before. The harness closes it after the check."""
        ...

    async def another(self) -> Backend:
        """One more client of the app that ``make`` opened last, with connections of its own."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let this much time pass for the server and for the event loop."""
        ...

    async def server_ms(self) -> int:
        """The server's own time, unix milliseconds."""
        ...

    async def forget(self, *, keep_jobs: bool) -> None:
        """Make the server forget, as a restart or failover does: what runs is not known for sure any more.

        Args:
            keep_jobs: True keeps jobs, members and what is in flight; False loses all of it.
        """
        ...


Check = Callable[[Harness], Awaitable[None]]


class Clauses:
    """Collects the checks of one file; as a decorator it opens the stage for each."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def __call__(self, play: Callable[[Stage], Awaitable[None]]) -> Check:
        @functools.wraps(play)
        async def check(harness: Harness) -> None:
            stage = Stage(harness, await harness.make())
            try:
                await play(stage)
            finally:
                stage.close()

        self.checks.append(check)
        return check


class Stage:
    """One app under check."""

    def __init__(self, harness: Harness, backend: Backend) -> None:
        self.harness = harness
        self.backend = backend
        self.ttl = harness.ttl
        self.actors: list[Actor] = []

    def close(self) -> None:
        for actor in self.actors:
            actor.close()

    async def join(
        self,
        lanes: Mapping[str, LanePolicy] | None = None,
        *,
        backend: Backend | None = None,
        old: Actor | None = None,
        keep: Sequence[Delivery] = (),
    ) -> Actor:
        """A new member; by default it serves lane ``a`` without a limit, over the first client.

        A fresh server may begin with a quarantine of limited lanes: the first member that serves one waits it out.
        """
        lanes = {"a": policy()} if lanes is None else lanes
        actor = await self.join_now(lanes, backend=backend, old=old, keep=keep)
        if any(lane.limit is not None for lane in lanes.values()) and len(self.actors) == 1:
            await self.outwait_quarantine(actor)
        return actor

    async def join_now(
        self,
        lanes: Mapping[str, LanePolicy],
        *,
        backend: Backend | None = None,
        old: Actor | None = None,
        keep: Sequence[Delivery] = (),
        ttl: float | None = None,
        heard: str = "",
        silence: float = 0.0,
    ) -> Actor:
        backend = backend or self.backend
        facts = MemberFacts(host="stage", pid=1, version="0", concurrency=MANY, backend="none")
        if old is not None:
            old.alive = False
        joined = await backend.fleet.join(
            facts,
            lanes,
            ttl=ttl or self.ttl,
            old=None if old is None else old.member,
            keep=keep,
            heard=heard,
            silence=silence,
        )
        actor = Actor(backend, joined)
        self.actors.append(actor)
        return actor

    async def outwait_quarantine(self, actor: Actor) -> None:
        for _ in range(100):
            if not (await actor.claim(0)).quarantine:
                return
            await self.pass_time(self.ttl / 8)
        raise AssertionError("the quarantine does not end")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; members that are alive renew meanwhile, as their keepers would."""
        while seconds > 0:
            step = min(seconds, self.ttl / 8)
            await self.harness.pass_time(step)
            for actor in self.actors:
                if actor.alive:
                    actor.renew()
            seconds -= step

    async def outlive(self, *deceased: Actor) -> None:
        """Let members die without a word, until the server has noticed. Somebody must be alive, for time to pass."""
        for actor in deceased:
            actor.alive = False
        assert any(actor.alive for actor in self.actors), "nobody is left to move the server's clock"
        await self.pass_time(1.25 * self.ttl)
        for actor in deceased:
            for _ in range(100):
                if (await actor.claim(0)).status is Status.LOST:
                    break
                await self.pass_time(self.ttl / 8)
            else:
                raise AssertionError("a lease that nobody renews does not end")

    async def submit(
        self, lane: str = "a", count: int = 1, *, delay: float = 0, at_ms: int = 0, key: str = ""
    ) -> list[str]:
        """Submit this many jobs as one batch; their ids."""
        batch = [self.submission(lane, i, delay=delay, at_ms=at_ms, key=key) for i in range(count)]
        return [receipt.job_id for receipt in await self.send(*batch)]

    async def submit_one(self, lane: str = "a", *, delay: float = 0, at_ms: int = 0, key: str = "") -> str:
        [only] = await self.submit(lane, delay=delay, at_ms=at_ms, key=key)
        return only

    async def send(self, *batch: Submission, batch_id: str | None = None) -> list[Receipt]:
        return await self.backend.stream.submit(batch_id or secrets.token_hex(8), batch)

    def submission(
        self, lane: str = "a", number: int = 0, *, delay: float = 0, at_ms: int = 0, key: str = ""
    ) -> Submission:
        fields = {"v": 1, "task": lane, "args": [number], "kwargs": {}, "attempt": 1} | (
            {"key": key} if key else {}
        )
        return Submission(lane, msgspec.json.encode(fields), round(delay * 1000), at_ms, key)

    async def cancel(self, job: str, reason: str = "why not") -> CancelAnswer:
        body = record(status="cancelled", reason=reason)
        return await self.backend.results.cancel(job, reason, body, RECORD_TTL_MS)

    async def kept(self, job: str) -> Record:
        """The record of a job that has one."""
        found = await self.backend.results.wait(job, 0)
        assert found is not None, f"no record of {job}"
        return found

    async def rings(self, actor: Actor) -> bool:
        """Does the doorbell ring for this member now, or did it since it was last quiet?"""
        return await actor.backend.stream.wait_ring(actor.me, self.ttl / 4)

    async def quiet(self, *actors: Actor) -> None:
        """Hear out what has rung so far."""
        for actor in actors:
            while await actor.backend.stream.wait_ring(actor.me, self.ttl / 16):
                pass
