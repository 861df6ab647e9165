"""What a candidate queue is to the harness: it takes jobs in, hands them to workers, and hears of their ends.

Every candidate gets the same: flowq's own link to Redis (``Channel``), one worker loop (``Shift``), one body, one lease time. So what
is compared is where jobs wait and how they are given out, not the client library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import anyio
import attrs
from anyio.abc import TaskStatus

from flowq.backends.redis.blocking import BlockingReader, open_reader
from flowq.backends.redis.channel import Channel, open_channel
from flowq.backends.redis.url import parse_url

LIMITS = {"free": 0, "limited": 3}
"""The two task types and their limits; 0 is none."""
TTL = 2.0
"""Seconds for which a worker that says nothing more still owns its jobs, in every design; flowq's ``lease_ttl``."""
TTL_MS = int(TTL * 1000)
POLL = 0.010
"""Seconds between two looks of a design whose structure has nothing to block on."""
BLOCK = 1.0
"""Seconds of a blocking read."""


@attrs.frozen
class Job:
    """One submitted run: its text is what lies in Redis."""

    raw: bytes
    receipt: bytes = b""
    """What settles it, if that is not the text itself."""

    @classmethod
    def of(cls, number: int, type_: str = "free", seconds: float = 0.0) -> Job:
        """A job whose body takes that long."""
        return cls(f"{number} {type_} {seconds:g}".encode())

    @property
    def number(self) -> int:
        return int(self.raw.split(b" ")[0])

    @property
    def type(self) -> str:
        return self.raw.split(b" ")[1].decode()

    @property
    def seconds(self) -> float:
        return float(self.raw.split(b" ")[2])


@attrs.frozen
class Link:
    """The ways to Redis of one process."""

    url: str
    channel: Channel
    reader: BlockingReader
    """For a worker's wait."""
    second_reader: BlockingReader
    """For whoever else must wait."""


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """Connected for the length of a block; the readers connect when they are first used."""
    address = parse_url(url)
    async with (
        open_channel(address) as channel,
        open_reader(address, channel) as reader,
        open_reader(address, channel) as second,
    ):
        yield Link(url, channel, reader, second)


class Design(ABC):
    """A queue, in one process: a producer's or a worker's."""

    def __init__(self, link: Link, me: str = "", *, slots: int = 0, recovers: bool = True) -> None:
        """Nothing is asked of Redis yet.

        Args:
            link: of this process.
            me: the worker's name.
            slots: how many bodies it runs at once.
            recovers: jobs of a dead worker are given out again; False shows what a bare list does.
        """
        self.link, self.channel = link, link.channel
        self.me, self.slots, self.recovers = me, slots, recovers
        self.attempts = 0
        """How often this worker asked for jobs."""
        self.empty = 0
        """How many of them brought none, or lost the one they brought."""
        self.paused = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Submits come inside of this."""
        yield

    @abstractmethod
    async def submit(self, jobs: Sequence[Job]) -> None:
        """Store jobs."""

    @abstractmethod
    async def work(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled. Starts when it is ready for them."""

    async def hold(self, paused: bool) -> bool:  # noqa: ARG002 - for those that can
        """From the producer: let no worker of the fleet start jobs, or again. False: this queue cannot, each worker is told by itself."""
        return False

    def pause(self, paused: bool) -> None:
        """In the worker: ask for no more jobs, or again."""
        self.paused = paused


class Candidate(Design):
    """A queue that the harness's own loop works for."""

    waits_for_jobs: ClassVar[bool] = False
    """``wait`` itself brings jobs; otherwise it only says that a try is worth while."""

    async def work(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        from bench.designs.shift import Shift

        self.shift = Shift(self)
        await self.shift.run(task_status=task_status)

    def pause(self, paused: bool) -> None:
        super().pause(paused)
        self.shift.change.set()

    @abstractmethod
    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        """Settle what has ended, and take at most ``room`` jobs: fewer only if there are no more to be had just now."""

    async def wait(self, room: int) -> list[Job]:  # noqa: ARG002 - for those whose wait brings jobs
        """Wait until another try is worth while; may bring up to ``room`` jobs."""
        await anyio.sleep(POLL)
        return []

    @abstractmethod
    async def renew(self, running: Sequence[Job]) -> list[Job]:
        """Called every quarter of ``TTL`` with what this worker runs; may bring jobs that a dead one ran."""

    async def open(self) -> None:
        """Called once, before the first turn."""

    async def run_beside(self) -> None:
        """What a worker runs beside its loop, if anything."""
