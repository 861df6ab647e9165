"""Opening an app's place with a broker: Redis as ever, a producer, and in a worker the intake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import attrs
from anyio import to_thread

from flowq._errors import ServerError
from flowq.backends.kafka.intake import Intake
from flowq.backends.kafka.producer import BlockingProducer, open_producer
from flowq.backends.kafka.stream import KafkaStream, SyncKafka
from flowq.backends.redis import open as redis_place

if TYPE_CHECKING:
    from flowq._errors import FlowqError
    from flowq.backends.kafka.url import KafkaAddress
    from flowq.backends.redis.open import RedisBackend
    from flowq.backends.redis.sync import SyncRedis

CAPABILITIES = attrs.evolve(redis_place.CAPABILITIES, name="kafka", cancel_ready=False, ordered=False)


class KafkaBackend:
    """One app's place: Redis, and Kafka before it."""

    capabilities = CAPABILITIES

    def __init__(self, redis: RedisBackend, stream: KafkaStream, intake: Intake) -> None:
        self._redis = redis
        self._intake = intake
        self.stream = stream
        self.fleet = redis.fleet
        self.timers = redis.timers
        self.results = redis.results

    @property
    def generation(self) -> int:
        return self._redis.generation

    async def wait_up(self) -> None:
        await self._redis.wait_up()

    @property
    def why_down(self) -> FlowqError | None:
        return self._redis.why_down

    async def warnings(self) -> list[str]:
        found = await self._redis.warnings()
        if not self._intake.topics:
            return found
        try:
            return found + await to_thread.run_sync(self._intake.findings)
        except ServerError as error:
            return [*found, f"Kafka did not say how it is set up: {error}"]


@asynccontextmanager
async def open_kafka(
    address: KafkaAddress, app: str, opener: Callable[[], AbstractAsyncContextManager[RedisBackend]]
) -> AsyncIterator[KafkaBackend]:
    """Open an app's place for the length of a block. Only a client that joins as a worker reads from Kafka.

    Args:
        app: full name, with its namespace.
        opener: of the app's place in Redis.
    """
    async with opener() as redis, open_producer(address) as producer, anyio.create_task_group() as tasks:
        intake = Intake(address, app, redis.stream)
        redis.fleet.on_serving(intake.serve, intake.stop)
        tasks.start_soon(intake.run)
        try:
            yield KafkaBackend(redis, KafkaStream(redis.stream, producer, address, app), intake)
        finally:
            tasks.cancel_scope.cancel()


def open_sync_kafka(address: KafkaAddress, app: str, redis: SyncRedis) -> SyncKafka:
    """The place for code without an event loop."""
    return SyncKafka(redis, BlockingProducer(address), address, app)
