"""From Kafka into Redis, as fast as workers start jobs and no faster: what is ready in Redis is claimed, limited and leased there.

A record is finished in Kafka when Redis has its job. So nothing that runs, waits for a token, is retried or hangs holds a partition,
a rebalance moves only records that have not begun, and the lease knows one kind of job. A record that comes twice (a worker died
between the two) is the same job: its id tells, see ``take_in.lua``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from typing import Final, Protocol

import anyio
import msgspec
from anyio import to_thread

from flowq._errors import ServerError
from flowq.backends.kafka.buffer import Fetched
from flowq.backends.kafka.consumer import KafkaConsumer, open_consumer
from flowq.backends.kafka.names import group_name, topic_name
from flowq.backends.kafka.topics import Topics
from flowq.backends.kafka.url import KafkaAddress

logger = logging.getLogger("flowq.kafka")

AHEAD: Final = 500
"""Jobs of a lane that may wait in Redis, over all workers: as many as start while the next ones are on their way."""
BATCH: Final = 200
"""Jobs of one write."""
BATCH_BYTES: Final = 1 << 20
"""About the most bytes of one write."""
SHORTEST, LONGEST = 0.005, 0.25
"""Seconds until a lane that was full is looked at again."""
TRIM_EVERY: Final = 300.0
"""Seconds between two looks of a worker for records that are finished and can be deleted: topics have no retention of their own."""
REST: Final = 1.0
"""Seconds until what failed is tried again."""


class Taker(Protocol):
    """Where the jobs go."""

    async def take_in(self, lane: str, most: int, jobs: Sequence[tuple[str, bytes]]) -> int:
        """See ``RedisStream.take_in``."""
        ...


class _Named(msgspec.Struct, gc=False):
    id: str = ""


_named = msgspec.json.Decoder(_Named).decode


def id_of(lane: str, envelope: bytes) -> str:
    """Pure: the id that our producer gave the job; '' of a record by somebody else, which gets the id of its stream entry."""
    try:
        found = _named(envelope).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return found if found.startswith(f"{lane}:k") else ""


def one_write(records: Sequence[Fetched]) -> int:
    """Pure: how many of these records go in one write; one at least."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.value)
        if size > BATCH_BYTES and count:
            return count
    return len(records)


class Intake:
    """Carries the records of the lanes that this worker serves, from ``serve`` on until ``stop``."""

    def __init__(self, address: KafkaAddress, app: str, taker: Taker) -> None:
        self._address = address
        self._app = app
        self._taker = taker
        self._asked = anyio.Event()
        self._scope = anyio.CancelScope()
        self._arrived = anyio.Event()
        self.topics: dict[str, str] = {}
        """By lane."""

    def serve(self, lanes: Collection[str]) -> None:
        """This worker runs jobs of these lanes; called again, it changes nothing: a worker serves what it began with."""
        if not self._asked.is_set():
            self.topics = {lane: topic_name(self._app, lane) for lane in lanes}
            self._asked.set()

    def stop(self) -> None:
        """It begins no more jobs: what has not been carried is for others."""
        self._scope.cancel()

    def findings(self) -> list[str]:
        """What is wrong with topics and broker; blocks."""
        return Topics(self._address, group_name(self._app), self.topics).findings()

    async def run(self) -> None:
        """Carry until stopped. No broker, or no Redis: try again."""
        with self._scope:
            await self._asked.wait()
            await self._ensure()
            async with (
                open_consumer(
                    self._address, group_name(self._app), self.topics, buffer=2 * AHEAD
                ) as consumer,
                anyio.create_task_group() as tasks,
            ):
                consumer.on_arrival = self._wake
                tasks.start_soon(self._trim)
                for lane in self.topics:
                    tasks.start_soon(self._carry, consumer, lane)

    async def _trim(self) -> None:
        """Every worker does it, at its own time: what is deleted already costs a look."""
        topics = Topics(self._address, group_name(self._app), self.topics)
        while True:
            await anyio.sleep(TRIM_EVERY * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret
            try:
                await to_thread.run_sync(topics.trim)
            except ServerError as error:
                logger.warning(
                    "finished records of %s are not deleted, trying again later: %s",
                    self._app,
                    error,
                    extra={"event": "kafka.not_trimmed", "facts": {"why": str(error)}},
                )

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _ensure(self) -> None:
        told = False
        while True:
            try:
                await to_thread.run_sync(Topics(self._address, group_name(self._app), self.topics).ensure)
                return
            except ServerError as error:
                if not told:
                    told = True
                    logger.warning(
                        "the topics of %s cannot be asked for, trying again: %s",
                        self._app,
                        error,
                        extra={"event": "kafka.not_reached", "facts": {"why": str(error)}},
                    )
            await anyio.sleep(REST)

    async def _carry(self, consumer: KafkaConsumer, lane: str) -> None:
        pause, told = SHORTEST, False
        while True:
            if not consumer.waiting()[lane]:
                await self._arrived.wait()
                continue
            try:
                moved, held_back = await self._move(consumer, lane)
            except ServerError as error:
                if not told:
                    told = True
                    logger.warning(
                        "jobs of %s stay in Kafka, trying again: %s",
                        lane,
                        error,
                        extra={"event": "kafka.not_carried", "facts": {"lane": lane, "why": str(error)}},
                    )
                await anyio.sleep(REST)
                continue
            told = False
            if held_back:
                pause = SHORTEST if moved else min(2 * pause, LONGEST)
                await anyio.sleep(pause)

    async def _move(self, consumer: KafkaConsumer, lane: str) -> tuple[int, bool]:
        """One write. Returns how many records were carried, and whether the lane had no room for all."""
        records = consumer.take(lane, BATCH)
        fit = one_write(records)
        consumer.give_back(records[fit:])
        records = records[:fit]
        done = 0
        try:
            jobs = [(id_of(lane, record.value), record.value) for record in records]
            done = await self._taker.take_in(lane, AHEAD, jobs)
        finally:
            # a record of a past assignment comes to another worker, too, and is the same job there
            consumer.finish(records[:done])
            consumer.give_back(records[done:])
        return done, done < len(records)
