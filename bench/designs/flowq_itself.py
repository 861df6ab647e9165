"""flowq: a stream for each type, and one script that gives out jobs within their limits to members whose lease is kept up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskStatus

import flowq
from bench.designs import body
from bench.designs.design import LIMITS, TTL, Design, Job, Link


class FlowqItself(Design):
    """Its worker is ``flowq.run``, not the harness's loop. What it asks Redis for is counted on the wire (``attempts`` stays 0)."""

    def __init__(self, link: Link, me: str = "", *, slots: int = 0, recovers: bool = True) -> None:
        super().__init__(link, me, slots=slots, recovers=recovers)
        self.app: flowq.App[Any] = flowq.App("designs", link.url, lease_ttl=TTL, results=False)
        for name, limit in LIMITS.items():
            self.app.task(name=name, limit=limit or None)(body.run)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with self.app:
            yield

    async def hold(self, paused: bool) -> bool:
        for name in LIMITS:
            await (self.app.pause(name) if paused else self.app.resume(name))
        return True

    async def submit(self, jobs: Sequence[Job]) -> None:
        for begin in range(0, len(jobs), 5000):
            some = jobs[begin : begin + 5000]
            await self.app.enqueue_many([self.app.ref(j.type).bind(j.number, j.seconds) for j in some])

    async def work(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(flowq.run, self.app, concurrency=self.slots))
            task_status.started()
