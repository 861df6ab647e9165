"""(3) One stream with a consumer group: pending entries, acknowledgement and recovery are Redis's own.

XREADGROUP wakes one reader for one entry, and what a dead worker had is claimed by the others. But the group hands out the next entry,
whatever its type is: a limit would have to be checked when the job is already in a worker's hands. So there is none here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from bench.designs.design import BLOCK, TTL_MS, Candidate, Job
from flowq import FlowqError
from flowq.backends.redis.connection import Arg

STREAM, GROUP = "one-stream", "workers"


class OneStream(Candidate):
    """Running jobs are renewed by claiming them anew; what nobody has renewed for ``TTL`` is taken over."""

    waits_for_jobs = True

    async def submit(self, jobs: Sequence[Job]) -> None:
        for begin in range(0, len(jobs), 500):
            some = jobs[begin : begin + 500]
            await self.channel.execute_many(("XADD", STREAM, "*", "d", job.raw) for job in some)

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        receipts = [job.receipt for job in ended]
        commands: list[tuple[Arg, ...]] = []
        if receipts:
            commands += [("XACK", STREAM, GROUP, *receipts), ("XDEL", STREAM, *receipts)]
        if room:
            commands.append(("XREADGROUP", "GROUP", GROUP, self.me, "COUNT", room, "STREAMS", STREAM, ">"))
        replies = await self.channel.execute_many(commands)
        return _jobs(replies[-1][0][1]) if room and replies[-1] else []

    async def wait(self, room: int) -> list[Job]:
        read = ("XREADGROUP", "GROUP", GROUP, self.me, "COUNT", room, "BLOCK", int(BLOCK * 1000))
        found = await self.link.reader.read(*read, "STREAMS", STREAM, ">", block=BLOCK)
        return _jobs(found[0][1]) if found else []

    async def renew(self, running: Sequence[Job]) -> list[Job]:
        if running:
            receipts = [job.receipt for job in running]
            await self.channel.execute("XCLAIM", STREAM, GROUP, self.me, 0, *receipts, "JUSTID")
        if self.slots <= len(running):
            return []
        take_over = ("XAUTOCLAIM", STREAM, GROUP, self.me, TTL_MS, "0", "COUNT", self.slots - len(running))
        return _jobs((await self.channel.execute(*take_over))[1])

    async def open(self) -> None:
        with contextlib.suppress(FlowqError):  # BUSYGROUP: another worker made it
            await self.channel.execute("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")


def _jobs(entries: Sequence[tuple[bytes, list[bytes]]]) -> list[Job]:
    return [Job(fields[1], entry) for entry, fields in entries]
