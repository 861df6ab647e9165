"""The worker loop of every candidate: free slots ask for jobs, standing consumers run them, ends go with the next turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from bench.designs import body
from bench.designs.design import TTL, Job

if TYPE_CHECKING:
    from bench.designs.design import Candidate


class Shift:
    """One worker's."""

    def __init__(self, design: Candidate) -> None:
        self.design = design
        self.change = anyio.Event()
        """A body has ended, or the design says that a try is worth while."""
        self._taken: dict[int, Job] = {}
        """Those that run, and those that a consumer is about to start."""
        self._ready: deque[Job] = deque()
        self._idle: list[anyio.Event] = []
        """Consumers that have nothing to do."""
        self._ended: list[Job] = []
        self._held: list[Job] = []
        """Brought by a wait that was going on when the shift was paused."""
        self._dry = False
        """The last try did not fill all slots: the next one waits for a sign."""
        self._wanted = anyio.Event()
        """The sign is wanted."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        design = self.design
        await design.open()
        async with anyio.create_task_group() as tasks:
            for beside in (self._listen, self._renew, design.run_beside, *[self._consume] * design.slots):
                tasks.start_soon(beside)
            task_status.started()
            while True:
                self.change = anyio.Event()
                ended, self._ended = self._ended, []
                ask = 0 if design.paused else self._room()
                if self._dry and (design.waits_for_jobs or not ended):
                    ask = 0
                if ended or ask:
                    self._start(await design.turn(ended, ask), ask)
                elif not self._ended:
                    if self._held and not design.paused:
                        self._start([], 0)
                    if self._dry and self._room() and not design.paused:
                        self._wanted.set()
                    await self.change.wait()

    def _room(self) -> int:
        return self.design.slots - len(self._taken)

    def _start(self, jobs: list[Job], asked: int) -> None:
        if asked:
            self.design.attempts += 1
            self.design.empty += not jobs
            self._dry = len(jobs) < asked
        self._held += jobs
        if not self.design.paused:
            for job in self._held:
                self._taken[job.number] = job
                self._ready.append(job)
                if self._idle:
                    self._idle.pop().set()
            self._held = []

    async def _consume(self) -> None:
        while True:
            while not self._ready:
                self._idle.append(anyio.Event())
                await self._idle[-1].wait()
            job = self._ready.popleft()
            await body.run(job.number, job.seconds)
            del self._taken[job.number]
            self._ended.append(job)
            self.change.set()

    async def _listen(self) -> None:
        """Wait for a sign whenever the loop wants one."""
        while True:
            await self._wanted.wait()
            room = self._room()
            jobs = await self.design.wait(room)
            self._wanted = anyio.Event()
            if self.design.waits_for_jobs:
                self._start(jobs, room)
            self._dry = self._dry and self.design.waits_for_jobs
            self.change.set()

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(TTL / 4)
            self._start(await self.design.renew([*self._taken.values(), *self._held]), 0)
