"""The client of librdkafka, all of it in one thread at a time: fetch, commit, and answer to rebalances.

It holds no opinion: what is paused and what is committed it is told with each step, and what a rebalance means it asks the ``Owner``,
in whose event loop the trackers live. The thread waits meanwhile, and the group waits for the thread: that is what a drain is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

import attrs
from anyio import from_thread
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from flowq.backends.kafka.errors import made, of_exception
from flowq.backends.kafka.topics import topic_ids
from flowq.backends.kafka.url import KafkaAddress

Place = tuple[str, int]
"""(topic, partition)."""

MOST: Final = 500
"""Records of one step."""
WAIT: Final = 0.05
"""Seconds that a step waits for a record; what is to be paused, resumed or committed waits as long."""
_ASK: Final = 10.0
_LOOK: Final = 1.0


@attrs.frozen
class Kept:
    """What the broker remembers of a partition."""

    place: Place
    offset: int | None
    """None: nothing was ever committed."""
    metadata: str
    topic_id: str
    """Of the topic as it is now; empty: not known."""


@attrs.frozen
class Commit:
    """What the broker shall remember of a partition."""

    place: Place
    offset: int
    metadata: str
    assignment: int
    changes: int


@attrs.frozen
class Step:
    """What a step brought."""

    records: list[Message[Any, Any]]
    answered: dict[Place, tuple[int, KafkaError | None]]
    """Of commits: the offset, and why it is not committed."""
    trouble: KafkaError | None
    """The last thing that went wrong; None: nothing, or it is over."""


class Owner(Protocol):
    """Who holds the trackers; called in its event loop."""

    def assign(self, kept: Sequence[Kept]) -> list[tuple[Place, int]]:
        """These partitions are ours now. Returns from where to read each; ``OFFSET_BEGINNING`` is an offset, too."""
        ...

    async def revoke(self, places: Sequence[Place]) -> list[Commit]:
        """These partitions go: drain them. Returns what to commit last; from then on nothing of them can be finished."""
        ...

    def lost(self, places: Sequence[Place]) -> None:
        """These partitions are gone already."""
        ...


def _settings(address: KafkaAddress, group: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        **address.client(),
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "group.protocol": address.group_protocol,
        # a topic that was made a moment ago, or given more partitions, is found within this time
        "topic.metadata.refresh.interval.ms": 5000,
        "socket.timeout.ms": 10_000,
        # read ahead a little, and look soon again when what was read has been taken
        "queued.min.messages": 2000,
        "queued.max.messages.kbytes": 16_384,
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 200,
        "fetch.error.backoff.ms": 100,
    }
    if address.group_protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = int(address.session_timeout * 1000)
        config["heartbeat.interval.ms"] = int(min(3.0, address.session_timeout / 4) * 1000)
    return config


class Client:
    """One membership in the group. Every method belongs into a worker thread of anyio, one at a time."""

    def __init__(self, address: KafkaAddress, group: str, topics: Sequence[str], owner: Owner) -> None:
        self._owner = owner
        self._paused: set[Place] = set()
        self._assigned: set[Place] = set()
        self._trouble: KafkaError | None = None
        self._answered: dict[Place, tuple[int, KafkaError | None]] = {}
        self._look_at = 0.0
        self._topics = frozenset(topics)
        self._admin = made(AdminClient, address, address.client())
        self._consumer = made(
            Consumer,
            address,
            {**_settings(address, group), "on_commit": self._on_commit, "error_cb": self._note},
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def step(self, paused: set[Place], commits: Sequence[Commit]) -> Step:
        """Pause and resume as told, begin to commit, and fetch what there is.

        Raises:
            KafkaException: this client is of no use any more: close it and make another.
        """
        self._pause(paused)
        if commits:
            self._commit(commits)
        records: list[Message[Any, Any]] = []
        first = self._consumer.poll(WAIT)
        if first is not None:
            for message in (first, *self._consumer.consume(MOST - 1, 0)):
                error = message.error()
                if error is None:
                    records.append(message)
                else:
                    self._note(error)
        if records:
            self._trouble = None
        elif self._trouble is not None:
            self._look()
        step = Step(records, self._answered, self._trouble)
        self._answered = {}
        return step

    def close(self) -> None:
        """Give everything back, in order, and leave the group."""
        self._consumer.close()

    # --- what is told ------------------------------------------------------------------------------------------------

    def _pause(self, paused: set[Place]) -> None:
        paused = paused & self._assigned
        if stop := paused - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in stop])
        if go := self._paused - paused:
            self._consumer.resume([TopicPartition(*place) for place in go])
        self._paused = paused

    def _commit(self, commits: Sequence[Commit]) -> None:
        try:
            self._consumer.commit(offsets=_offsets(commits), asynchronous=True)
        except KafkaException as error:
            self._answered |= {commit.place: (commit.offset, of_exception(error)) for commit in commits}

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._answered[partition.topic, partition.partition] = (
                partition.offset,
                partition.error or error,
            )

    # --- what happens ------------------------------------------------------------------------------------------------

    def _note(self, error: KafkaError) -> None:
        """Remember it for the worker's log, and end this client if it is beyond repair."""
        self._trouble = error
        if error.fatal():
            raise KafkaException(error)

    def _look(self) -> None:
        """Whether the trouble is over, once a second: nothing tells an idle consumer that the brokers or a topic are back."""
        if time.monotonic() < self._look_at:
            return
        try:
            there = self._consumer.list_topics(timeout=0.5).topics
        except KafkaException as error:
            self._trouble = of_exception(error)
        else:
            if self._topics <= there.keys():
                self._trouble = None
        self._look_at = time.monotonic() + _LOOK

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not partitions:
            consumer.incremental_assign([])
            return
        ids = topic_ids(self._admin, {partition.topic for partition in partitions})
        kept = [
            Kept(
                (found.topic, found.partition),
                found.offset if found.offset >= 0 else None,
                found.metadata or "",
                ids.get(found.topic, ""),
            )
            for found in self._committed(consumer, partitions)
        ]
        starts = from_thread.run_sync(self._owner.assign, kept)
        consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in starts])
        self._assigned |= {place for place, _ in starts}
        self._trouble = None

    @staticmethod
    def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """What is committed; a coordinator that moves is asked again. Never a guess: that would be the whole log once more."""
        failed = KafkaError(KafkaError._TIMED_OUT)
        for _ in range(3):
            try:
                found = consumer.committed(partitions, timeout=_ASK)
            except KafkaException as error:
                failed = of_exception(error)
            else:
                errors = [partition.error for partition in found if partition.error]
                if not errors:
                    return found
                failed = errors[0]
        raise KafkaException(failed)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(partition.topic, partition.partition) for partition in partitions]
        commits = from_thread.run(self._owner.revoke, places)
        if commits:
            try:
                consumer.commit(offsets=_offsets(commits), asynchronous=False)
            except KafkaException as error:
                # those records run once more, with the next owner: at least once is what is promised
                self._trouble = of_exception(error)
        self._forget(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        from_thread.run_sync(
            self._owner.lost, [(partition.topic, partition.partition) for partition in partitions]
        )
        self._forget(consumer, partitions)

    def _forget(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {(partition.topic, partition.partition) for partition in partitions}
        self._assigned -= gone
        self._paused -= gone
        consumer.incremental_unassign(partitions)


def _offsets(commits: Sequence[Commit]) -> list[TopicPartition]:
    return [TopicPartition(*commit.place, commit.offset, metadata=commit.metadata) for commit in commits]


BEGINNING: Final = OFFSET_BEGINNING
