"""Records in, and back when the broker has them: for an event loop, and for plain threads.

One librdkafka producer, idempotent, ``acks=all``: it sends again by itself what was not confirmed, in order and without doubling, until
the time is over. What it then reports is told apart in ``errors``: surely not stored, or perhaps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
from anyio import CapacityLimiter, to_thread
from confluent_kafka import KafkaError, KafkaException, Producer

from flowq._errors import FlowqError, NotEntered, OutcomeUnknown, PayloadTooLarge
from flowq.backends.kafka.errors import NO_TOPIC, made, not_asked, not_produced, of_exception

if TYPE_CHECKING:
    from confluent_kafka import Message

    from flowq.backends.kafka.url import KafkaAddress

TIMEOUT: Final = 10.0
"""Seconds after which a record that no broker confirmed is given up."""
MAX_BYTES: Final = 1_000_000
"""Of one record; Kafka's brokers take 1,048,588 with what is around it, if nobody raised that."""
_POLL: Final = 0.1
_OVERHEAD: Final = 512
"""Bytes around a record's value, generously."""


class _Batch:
    """Records that are sent together. Any thread that polls may report of them: a report is one append, which is atomic."""

    __slots__ = ("_reports", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._reports: list[tuple[KafkaError | None, str]] = []

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        self._reports.append((error, message.topic() or ""))

    def not_taken(self, number: int, error: KafkaError, topic: str) -> None:
        self._reports += [(error, topic)] * number

    @property
    def is_over(self) -> bool:
        """Every record has been reported of."""
        return len(self._reports) >= self._size

    @property
    def errors(self) -> list[tuple[KafkaError, str]]:
        return [(error, topic) for error, topic in self._reports if error is not None]

    @property
    def stored(self) -> int:
        return sum(error is None for error, _ in self._reports)


def _raise(batch: _Batch, address: object) -> None:
    """The gravest of what went wrong: a record that may be stored outweighs one that surely is not."""
    found: list[FlowqError] = [not_produced(error, topic, address) for error, topic in batch.errors]
    if not batch.is_over:
        found.append(
            OutcomeUnknown(
                f"the producer was closed before {address} confirmed the records: they may be stored"
            )
        )
    if not found:
        return
    unknown = next((error for error in found if isinstance(error, OutcomeUnknown)), None)
    if unknown is None and batch.stored:
        raise OutcomeUnknown(
            f"{batch.stored} of the batch's records are stored, the others are not: {found[0]}"
        )
    raise unknown or found[0]


class BlockingProducer:
    """For plain threads: any number of them may send at once. Also what ``KafkaProducer`` drives."""

    def __init__(
        self, address: KafkaAddress, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._known: set[str] = set()
        self._guard = threading.Lock()
        self._producer = made(
            Producer,
            address,
            {
                **address.client(),
                "acks": "all",
                "enable.idempotence": True,
                "message.timeout.ms": int(timeout * 1000),
                "request.timeout.ms": int(max(min(timeout, 5.0), 0.1) * 1000),
                "message.max.bytes": max_bytes + _OVERHEAD,
                # what is sent while a request is on its way goes together; waiting longer only costs time
                "linger.ms": 0,
                "retry.backoff.ms": 50,
                "queue.buffering.max.messages": 500_000,
            },
        )

    def check(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Before anything is sent: nothing is too large, and the topics are there.

        Raises:
            PayloadTooLarge: nothing was sent. Unavailable: nothing was sent; no broker answers, or there is no such topic.
        """
        largest = max((len(value) for _, value in records), default=0)
        if largest > self._max_bytes:
            raise PayloadTooLarge(
                f"an encoded job of {largest} bytes; at most {self._max_bytes} go through Kafka: send a reference to the data "
                "instead of the data"
            )
        for topic in {topic for topic, _ in records} - self._known:
            self._look_up(topic)

    def needs_check(self, records: Iterable[tuple[str, bytes]]) -> bool:
        """Whether ``check`` has to ask a broker."""
        return any(topic not in self._known for topic, _ in records)

    def _look_up(self, topic: str) -> None:
        """Ask for the topic first: a record for one that nobody has would wait, and then be one of which nothing is known."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                found = self._producer.list_topics(
                    topic, timeout=max(deadline - time.monotonic(), 0.1)
                ).topics[topic]
            except KafkaException as error:
                raise not_asked(of_exception(error), "answer", self._address) from error
            if found.error is None:
                with self._guard:
                    self._known.add(topic)
                return
            if found.error.code() in NO_TOPIC or time.monotonic() > deadline:
                raise not_produced(found.error, topic, self._address)
            time.sleep(0.05)

    def start(self, records: Sequence[tuple[str, bytes]]) -> _Batch:
        """Hand the records to the client; returns at once."""
        batch = _Batch(len(records))
        for index, (topic, value) in enumerate(records):
            try:
                self._producer.produce(topic, value=value, on_delivery=batch.delivered)
            except (BufferError, KafkaException) as error:
                code = (
                    of_exception(error)
                    if isinstance(error, KafkaException)
                    else KafkaError(KafkaError._QUEUE_FULL)
                )
                batch.not_taken(len(records) - index, code, topic)
                break
        return batch

    def poll(self, seconds: float) -> None:
        """Wait for reports of the broker, at most that long."""
        self._producer.poll(seconds)

    def end(self, batch: _Batch) -> None:
        """Raise what the batch came to, if it is anything but stored."""
        for error, topic in batch.errors:
            if error.code() in NO_TOPIC:
                with self._guard:
                    self._known.discard(topic)
        _raise(batch, self._address)

    def send(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Send (topic, value); returns when the broker has all of them.

        Raises:
            PayloadTooLarge, Unavailable: surely not stored, none of them. OutcomeUnknown: any of them may be stored.
        """
        self.check(records)
        batch = self.start(records)
        while not batch.is_over:
            self._producer.poll(_POLL)
        self.end(batch)

    def close(self) -> None:
        """What is still on its way has its time; nothing of it is waited for longer."""
        self._producer.flush(self._timeout)


class KafkaProducer:
    """For an event loop: any number of tasks may send at once; one task and its thread do the waiting for all of them."""

    def __init__(self, blocking: BlockingProducer) -> None:
        self._blocking = blocking
        self._waiting: list[tuple[_Batch, anyio.Event]] = []
        self._work = anyio.Event()
        self._limiter = CapacityLimiter(1)
        self._closed = False

    async def send(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Send (topic, value); returns when the broker has all of them.

        Raises:
            PayloadTooLarge, Unavailable: surely not stored, none of them. OutcomeUnknown: any of them may be stored, which holds
                of a cancelled call, too.
        """
        if self._closed:
            raise NotEntered("the producer of Kafka is closed: send before the app is left")
        if not records:
            return
        if self._blocking.needs_check(records):
            await to_thread.run_sync(self._blocking.check, records)
        else:
            self._blocking.check(records)
        batch = self._blocking.start(records)
        done = anyio.Event()
        self._waiting.append((batch, done))
        self._work.set()
        await done.wait()
        self._blocking.end(batch)

    async def run(self) -> None:
        """Serve the senders until cancelled."""
        while True:
            if not self._waiting:
                self._work = anyio.Event()
                await self._work.wait()
            await to_thread.run_sync(self._blocking.poll, _POLL, limiter=self._limiter)
            still = [(batch, done) for batch, done in self._waiting if not batch.is_over]
            for batch, done in self._waiting:
                if batch.is_over:
                    done.set()
            self._waiting = still

    async def close(self) -> None:
        """Give what is on its way its time; who still waits then learns that nobody knows."""
        self._closed = True
        await to_thread.run_sync(self._blocking.close)
        for _, done in self._waiting:
            done.set()


@asynccontextmanager
async def open_producer(
    address: KafkaAddress, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES
) -> AsyncIterator[KafkaProducer]:
    """A producer for as long as the block lasts. It connects when it is first used."""
    producer = KafkaProducer(BlockingProducer(address, timeout=timeout, max_bytes=max_bytes))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(producer.run)
        try:
            yield producer
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await producer.close()
