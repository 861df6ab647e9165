"""Submitting by way of Kafka: plain jobs are produced; those with a delay, a time or an idempotency key go to Redis as ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
from anyio import to_thread

from flowq._errors import OutcomeUnknown, ServerError
from flowq._model import Receipt, Submission
from flowq.backends.kafka.names import group_name, topic_name
from flowq.backends.kafka.producer import MAX_BYTES
from flowq.backends.kafka.topics import Topics
from flowq.backends.redis.sync import SyncRedis

if TYPE_CHECKING:
    from flowq._model import Delivery, Ended, Exchanged, Settled, Want
    from flowq.backends.kafka.producer import BlockingProducer, KafkaProducer
    from flowq.backends.kafka.url import KafkaAddress
    from flowq.backends.protocol import Standing
    from flowq.backends.redis.stream import RedisStream

LARGEST: Final = MAX_BYTES - 1000
"""Bytes of a job that goes by Kafka, without its id; a larger one goes to Redis, which takes it."""
Record = tuple[str, bytes]
"""(lane, envelope)."""


@attrs.frozen
class Split:
    """A batch, by road, and the way back to its order."""

    kafka: list[Record]
    receipts: dict[int, Receipt]
    """Of the jobs that go by Kafka, by place in the batch."""
    redis: list[Submission]

    def merged(self, stored: Sequence[Receipt]) -> list[Receipt]:
        """The receipts of the whole batch. ``stored``: those of ``redis``."""
        rest = iter(stored)
        total = len(self.receipts) + len(stored)
        return [self.receipts[place] if place in self.receipts else next(rest) for place in range(total)]


def split(batch_id: str, batch: Sequence[Submission]) -> Split:
    """Pure. The ids follow from the batch's: the same batch sent again has the same ones, and each id is taken in once."""
    number = int.from_bytes(hashlib.sha256(batch_id.encode()).digest()[:7], "big")
    kafka: list[Record] = []
    receipts: dict[int, Receipt] = {}
    redis: list[Submission] = []
    for place, job in enumerate(batch):
        if job.delay_ms or job.at_ms or job.key or len(job.envelope) > LARGEST:
            redis.append(job)
            continue
        job_id = f"{job.lane}:k{number}-{place}"
        receipts[place] = Receipt(job_id, True)
        kafka.append((job.lane, b'{"id":"%s",' % job_id.encode() + job.envelope[1:]))
    return Split(kafka, receipts, redis)


class _Named:
    """The topics of one app; made when they are first written to."""

    def __init__(self, address: KafkaAddress, app: str) -> None:
        self._address, self._app = address, app
        self._made: set[str] = set()

    def records(self, records: Sequence[Record]) -> list[tuple[str, bytes]]:
        return [(topic_name(self._app, lane), value) for lane, value in records]

    def missing(self, records: Sequence[Record]) -> set[str]:
        return {lane for lane, _ in records} - self._made

    def make(self, lanes: set[str]) -> None:
        """Blocks."""
        topics = {lane: topic_name(self._app, lane) for lane in lanes}
        Topics(self._address, group_name(self._app), topics).ensure()
        self._made |= lanes


def _in_part(error: ServerError, parts: Split) -> ServerError:
    """Part of the batch is stored in Redis already: of the whole it cannot be said that nothing is."""
    return OutcomeUnknown(f"a part of the batch is in Redis, the rest: {error}") if parts.redis else error


class KafkaStream:
    """The Stream of an app with a broker (see ``protocol.Stream``): it submits by two roads, and claims where all jobs end up: in Redis."""

    def __init__(self, redis: RedisStream, producer: KafkaProducer, address: KafkaAddress, app: str) -> None:
        self._redis = redis
        self._producer = producer
        self._names = _Named(address, app)

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        parts = split(batch_id, batch)
        stored = await self._redis.submit(batch_id, parts.redis) if parts.redis else []
        try:
            if missing := self._names.missing(parts.kafka):
                await to_thread.run_sync(partial(self._names.make, missing))
            await self._producer.send(self._names.records(parts.kafka))
        except ServerError as error:
            raise _in_part(error, parts) from error
        return parts.merged(stored)

    async def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        return await self._redis.exchange(me, ended, want)

    async def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        return await self._redis.mine(me, known)

    async def wait_ring(self, me: Standing, block: float) -> bool:
        return await self._redis.wait_ring(me, block)

    def stop_waiting(self) -> None:
        self._redis.stop_waiting()


class SyncKafka:
    """The same without an event loop (see ``SyncRedis``)."""

    def __init__(self, redis: SyncRedis, producer: BlockingProducer, address: KafkaAddress, app: str) -> None:
        self._redis = redis
        self._producer = producer
        self._names = _Named(address, app)
        self.wait = redis.wait
        self.status = redis.status
        self.cancel = redis.cancel

    def submit(self, batch_id: str, batch: list[Submission]) -> list[Receipt]:
        """See ``protocol.Stream.submit``."""
        parts = split(batch_id, batch)
        stored = self._redis.submit(batch_id, parts.redis) if parts.redis else []
        try:
            if missing := self._names.missing(parts.kafka):
                self._names.make(missing)
            self._producer.send(self._names.records(parts.kafka))
        except ServerError as error:
            raise _in_part(error, parts) from error
        return parts.merged(stored)

    def close(self) -> None:
        """Give back what is open; what is on its way has its time."""
        self._producer.close()
        self._redis.close()
