"""Records out of Kafka: a bounded buffer of each lane, and what has become of each record.

One task owns the client and drives it step by step in a thread, so that nothing of a client is used by two at once and trio and asyncio
share this code. Everything else here belongs to the event loop and waits for nothing: what a rebalance changes, it changes between two
calls, never within one.

A record is fenced by its assignment: each time that a partition comes to this consumer it gets a fresh number, and what was fetched
under another one cannot be finished any more, for another worker may run it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Final, TypeVar

import anyio
import attrs
from anyio import CapacityLimiter, to_thread
from confluent_kafka import KafkaError, KafkaException

from flowq._errors import FlowqError
from flowq.backends.kafka.buffer import Belongs, Buffer, Fetched
from flowq.backends.kafka.client import BEGINNING, Client, Commit, Kept, Place, Step
from flowq.backends.kafka.errors import not_asked, of_exception
from flowq.backends.kafka.offset_map import decode, encode, is_other_topic
from flowq.backends.kafka.tracker import WINDOW, Arrival, Tracker
from flowq.backends.kafka.url import KafkaAddress

logger = logging.getLogger("flowq.kafka")
T = TypeVar("T")

BUFFER: Final = 1000
"""Most records of a lane that wait here, about."""
BUFFER_BYTES: Final = 16 << 20
"""Most bytes of a lane that wait here, about."""
COMMIT_EVERY: Final = 0.2
"""Seconds between two commits, if something was finished."""
DRAIN: Final = 5.0
"""Most seconds for which a rebalance waits for this worker's running jobs."""
_NO_ANSWER: Final = 30.0
_REST: Final = 1.0


@attrs.define(eq=False)
class _Partition:
    """One that is ours."""

    lane: str
    assignment: int
    tracker: Tracker
    topic_id: str
    leaving: bool = False
    """It is being revoked: what runs may end, nothing begins."""


class KafkaConsumer:
    """What ``open_consumer`` yields. Every method without ``async`` is for the event loop and takes effect at once."""

    def __init__(
        self,
        make_client: Callable[[], Client],
        address: KafkaAddress,
        topics: Mapping[str, str],
        *,
        buffer: int = BUFFER,
        buffer_bytes: int = BUFFER_BYTES,
        window: int = WINDOW,
        drain: float = DRAIN,
    ) -> None:
        self._make_client = make_client
        self._address = address
        self._topics = dict(topics)
        self._lanes = {topic: lane for lane, topic in topics.items()}
        self._buffer, self._buffer_bytes, self._window, self._drain = buffer, buffer_bytes, window, drain
        self._buffers = {lane: Buffer() for lane in topics}
        self._partitions: dict[Place, _Partition] = {}
        self._numbers = count(1)
        self._limiter = CapacityLimiter(1)
        self._closing = False
        self._in_flight: Sequence[Commit] = ()
        self._committed_at = -_NO_ANSWER
        self.why_down: FlowqError | None = None
        """What keeps it from fetching, while something does."""
        self.on_arrival: Callable[[], None] = _nothing
        """The buffer of some lane is not empty any more."""
        self.on_revoked: Callable[[Belongs], Awaitable[None]] = _nothing_of
        """Partitions go to another worker. The group waits while this runs, at most ``drain`` seconds: end or cancel what runs of
        them and finish it; what is not finished then will run elsewhere."""
        self.on_lost: Callable[[Belongs], None] = _nothing
        """Partitions are gone, and another worker may run their records already: cancel what runs of them. Nothing of it can be
        finished."""

    # --- records -----------------------------------------------------------------------------------------------------

    def waiting(self) -> Mapping[str, int]:
        """How many records of each lane wait here."""
        return {lane: len(buffer.records) for lane, buffer in self._buffers.items()}

    def take(self, lane: str, most: int) -> list[Fetched]:
        """Take out the oldest records of a lane; each is to be finished or given back."""
        return self._buffers[lane].take(most)

    def give_back(self, records: Iterable[Fetched]) -> None:
        """They were not started after all: they wait again, in front. Those of a past assignment are dropped."""
        by_lane: dict[str, list[Fetched]] = {}
        for record in records:
            found = self._partition_of(record)
            if found is not None and not found.leaving:
                by_lane.setdefault(record.lane, []).append(record)
        for lane, mine in by_lane.items():
            self._buffers[lane].put_back(mine)

    def is_ours(self, record: Fetched) -> bool:
        """Whether the record is still under the assignment under which it was fetched."""
        return self._partition_of(record) is not None

    def finish(self, records: Iterable[Fetched]) -> list[Fetched]:
        """They are done for good and shall not come again. Returns those for which it is too late: another worker may run them."""
        refused: list[Fetched] = []
        for record in records:
            found = self._partition_of(record)
            if found is None or not found.tracker.finish(record.offset):
                refused.append(record)
        return refused

    def outstanding(self) -> Mapping[str, int]:
        """How many records of each lane were fetched and are not finished, those that wait here among them."""
        found = dict.fromkeys(self._topics, 0)
        for mine in self._partitions.values():
            found[mine.lane] += mine.tracker.outstanding
        return found

    def assigned(self) -> Mapping[str, int]:
        """How many partitions of each lane are ours."""
        found = dict.fromkeys(self._topics, 0)
        for mine in self._partitions.values():
            found[mine.lane] += 1
        return found

    def _partition_of(self, record: Fetched) -> _Partition | None:
        found = self._partitions.get((self._topics.get(record.lane, ""), record.partition))
        return found if found is not None and found.assignment == record.assignment else None

    # --- the owner ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive the client until ``close``; a client that is beyond repair is replaced. To be shielded: a step cannot be left."""
        while not self._closing:
            client = None
            try:
                client = await self._in_thread(self._make_client)
                while not self._closing:
                    self._take_in(await self._in_thread(partial(client.step, self._paused(), self._due())))
            except KafkaException as error:
                self._down(of_exception(error))
                logger.warning(
                    "the Kafka client is beyond repair and is replaced: %s",
                    self.why_down,
                    extra={"event": "kafka.client_replaced", "facts": {"why": str(self.why_down)}},
                )
            finally:
                if client is not None:
                    await self._in_thread(client.close)
                self.lost(list(self._partitions))
            if not self._closing:
                await anyio.sleep(_REST)

    def close(self) -> None:
        """Let ``run`` commit, leave and end, within a step."""
        self._closing = True

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=self._limiter)

    def _take_in(self, step: Step) -> None:
        if step.answered:
            self._committed(step)
        if step.trouble is None:
            self.why_down = None
        else:
            self._down(step.trouble)
        was_empty = any(not buffer.records for buffer in self._buffers.values())
        arrived = False
        for message in step.records:
            place = (str(message.topic()), int(message.partition() or 0))
            arrived |= self._arrive(place, int(message.offset() or 0), message.value() or b"")
        if arrived and was_empty:
            self.on_arrival()

    def _arrive(self, place: Place, offset: int, value: bytes) -> bool:
        mine = self._partitions.get(place)
        if mine is None or mine.leaving:
            return False
        arrival = mine.tracker.arrive(offset)
        if arrival is Arrival.REWOUND:
            logger.warning(
                "%s [%d] goes on at %d, below where it was read already: another log than before",
                *place,
                offset,
                extra={
                    "event": "kafka.rewound",
                    "facts": {"topic": place[0], "partition": place[1], "offset": offset},
                },
            )
            self.lost([place])
            mine = self._partitions[place] = self._fresh(mine.lane, Tracker(offset, window=self._window), "")
            arrival = mine.tracker.arrive(offset)
        if arrival is Arrival.FINISHED:
            return False
        self._buffers[mine.lane].put(Fetched(mine.lane, place[1], offset, mine.assignment, value))
        return True

    def _paused(self) -> set[Place]:
        full = {
            lane for lane, buffer in self._buffers.items() if buffer.is_full(self._buffer, self._buffer_bytes)
        }
        return {
            place
            for place, mine in self._partitions.items()
            if mine.leaving or mine.lane in full or mine.tracker.is_full
        }

    def _down(self, error: KafkaError) -> None:
        self.why_down = not_asked(error, f"give records to the group of {self._topics}", self._address)

    def _fresh(self, lane: str, tracker: Tracker, topic_id: str) -> _Partition:
        return _Partition(lane, next(self._numbers), tracker, topic_id)

    # --- commits -----------------------------------------------------------------------------------------------------

    def _due(self) -> Sequence[Commit]:
        """What to commit with the next step: one commit is on its way at a time."""
        now = anyio.current_time()
        wait = (
            _NO_ANSWER
            if any(commit.place in self._partitions for commit in self._in_flight)
            else COMMIT_EVERY
        )
        if now < self._committed_at + wait:
            return ()
        self._in_flight = self._commits(self._partitions)
        if self._in_flight:
            self._committed_at = now
        return self._in_flight

    def _commits(self, places: Iterable[Place]) -> list[Commit]:
        commits = []
        for place in places:
            mine = self._partitions.get(place)
            if mine is not None and mine.tracker.is_dirty:
                low = mine.tracker.low
                text = encode(low, mine.tracker.finished_above(), mine.topic_id)
                commits.append(Commit(place, low, text, mine.assignment, mine.tracker.changes))
        return commits

    def _committed(self, step: Step) -> None:
        """Note what the broker has. What it refused stays to be committed: a rebalance or a coordinator that moves is no error of ours."""
        still: list[Commit] = []
        for commit in self._in_flight:
            offset, error = step.answered.get(commit.place, (-1, None))
            mine = self._partitions.get(commit.place)
            if offset != commit.offset:
                still.append(commit)
            elif error is None and mine is not None and mine.assignment == commit.assignment:
                mine.tracker.committed(commit.changes)
        self._in_flight = still

    # --- rebalances: ``Owner`` ---------------------------------------------------------------------------------------

    def assign(self, kept: Sequence[Kept]) -> list[tuple[Place, int]]:
        """See ``Owner``."""
        starts: list[tuple[Place, int]] = []
        for one in kept:
            lane = self._lanes[one.place[0]]
            if one.offset is None or is_other_topic(one.metadata, one.topic_id):
                tracker, start = Tracker(0, window=self._window), BEGINNING
            else:
                tracker = Tracker(one.offset, decode(one.offset, one.metadata, one.topic_id), self._window)
                start = one.offset
            self._partitions[one.place] = self._fresh(lane, tracker, one.topic_id)
            starts.append((one.place, start))
        return starts

    async def revoke(self, places: Sequence[Place]) -> list[Commit]:
        """See ``Owner``."""
        leaving = [mine for place in places if (mine := self._partitions.get(place)) is not None]
        for mine in leaving:
            mine.leaving = True
        belongs = self._belongs(leaving)
        for lane in {mine.lane for mine in leaving}:
            self._buffers[lane].drop(belongs)
        if leaving:
            with anyio.move_on_after(self._drain):
                await self.on_revoked(belongs)
        commits = self._commits(places)
        for place in places:
            self._partitions.pop(place, None)
        return commits

    def lost(self, places: Sequence[Place]) -> None:
        """See ``Owner``."""
        gone = [mine for place in places if (mine := self._partitions.pop(place, None)) is not None]
        belongs = self._belongs(gone)
        for lane in {mine.lane for mine in gone}:
            self._buffers[lane].drop(belongs)
        if gone:
            self.on_lost(belongs)

    @staticmethod
    def _belongs(partitions: Iterable[_Partition]) -> Belongs:
        numbers = {mine.assignment for mine in partitions}
        return lambda record: record.assignment in numbers


def _nothing(*_: object) -> None:
    """Nobody listens."""


async def _nothing_of(_: Belongs) -> None:
    """Nobody listens."""


@asynccontextmanager
async def open_consumer(
    address: KafkaAddress,
    group: str,
    topics: Mapping[str, str],
    *,
    buffer: int = BUFFER,
    buffer_bytes: int = BUFFER_BYTES,
    window: int = WINDOW,
    drain: float = DRAIN,
) -> AsyncIterator[KafkaConsumer]:
    """A member of the group for as long as the block lasts; what is finished by then is committed.

    Args:
        address: of the brokers. They need not be there: see ``KafkaConsumer.why_down``.
        group: whose members share the records; one for each app.
        topics: by lane. A topic that does not exist yet is read from when it does.
        buffer, buffer_bytes: about the most of one lane that waits here; a lane that reaches it is paused, the others go on.
        window: most offsets between the oldest unfinished record of a partition and the newest that was handed out.
        drain: most seconds for which a rebalance waits for ``on_revoked``.
    """

    def make_client() -> Client:
        return Client(address, group, list(topics.values()), consumer)

    consumer = KafkaConsumer(
        make_client, address, topics, buffer=buffer, buffer_bytes=buffer_bytes, window=window, drain=drain
    )

    async def own() -> None:
        with anyio.CancelScope(shield=True):
            await consumer.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own)
        try:
            yield consumer
        finally:
            consumer.close()
