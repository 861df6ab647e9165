"""Topics of an app: made where they are missing, and looked at for what would lose jobs.

A topic that flowq makes keeps its records until they are finished: it has no retention, and ``trim`` deletes what the group has behind it.
All of it is blocking, for a worker thread; it asks a broker a few times in all, not once for each topic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType  # pyright: ignore[reportPrivateImportUsage]  # they are documented there

from flowq.backends.kafka.errors import NO_TOPIC, made, not_asked, of_exception
from flowq.backends.kafka.offset_map import decode, is_other_topic
from flowq.backends.kafka.url import KafkaAddress

ASK: Final = 10.0
"""Seconds for an answer."""
RETENTION: Final = 7 * 86_400_000
"""Milliseconds: a topic that keeps its records for less is told of, for a worker may well be away over a long weekend."""
OFFSETS_RETENTION: Final = 7 * 24 * 60
"""Minutes: Kafka's own default."""
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
_NO_ANSWER: Final = NO_TOPIC | {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}
T = TypeVar("T")


class Topics:
    """The topics of an app and what its group has made of them."""

    def __init__(self, address: KafkaAddress, group: str, topics: Mapping[str, str]) -> None:
        """``topics``: by lane. It connects when it is first asked."""
        self._address = address
        self._group = group
        self._lanes = {topic: lane for lane, topic in topics.items()}
        self._admin = made(AdminClient, address, {**address.client(), "socket.timeout.ms": int(ASK * 1000)})

    # --- what is there -----------------------------------------------------------------------------------------------

    def ensure(self) -> list[str]:
        """Make the topics that are missing. Returns the names of those that were made; an existing one is not touched.

        Raises:
            ServerError: not answered, or not allowed to. What was made by then stays.
        """
        present = self._present()
        missing = [topic for topic in self._lanes if topic not in present]
        if not missing:
            return []
        copies = self._address.replication or -1
        config = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
        if copies > 2:
            config["min.insync.replicas"] = "2"
        asked = self._admin.create_topics(
            [NewTopic(topic, self._address.partitions, copies, config=config) for topic in missing],
            operation_timeout=ASK,
        )
        made: list[str] = []
        for topic, future in asked.items():
            try:
                future.result(ASK)
            except KafkaException as error:
                # another worker that starts at the same moment made it
                if of_exception(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise not_asked(of_exception(error), f"make the topic {topic}", self._address) from error
            else:
                made.append(topic)
        return made

    def _present(self) -> set[str]:
        try:
            return set(self._admin.list_topics(timeout=ASK).topics)
        except KafkaException as error:
            raise not_asked(of_exception(error), "list its topics", self._address) from error

    def findings(self) -> list[str]:
        """What makes jobs be lost, repeated or refused as topics and broker are set up: a sentence each, with the way out.

        Raises:
            ServerError: not answered, or not allowed to look.
        """
        try:
            cluster = self._admin.list_topics(timeout=ASK)
            mine = {topic: cluster.topics[topic] for topic in self._lanes if topic in cluster.topics}
            broker = str(next(iter(cluster.brokers)))
            wanted = [ConfigResource(ResourceType.BROKER, broker)]
            wanted += [ConfigResource(ResourceType.TOPIC, topic) for topic in mine]
            settings = {
                resource.name: _values(_result(future))
                for resource, future in self._admin.describe_configs(wanted, request_timeout=ASK).items()
            }
        except KafkaException as error:
            raise not_asked(of_exception(error), "describe its settings", self._address) from error
        found = [
            f"there is no topic {topic}: it is made when a worker starts"
            for topic in self._lanes
            if topic not in mine
        ]
        found += of_broker(settings[broker])
        for topic, about in mine.items():
            copies = min((len(part.replicas) for part in about.partitions.values()), default=1)
            found += of_topic(topic, settings[topic], copies, len(cluster.brokers))
        return found

    # --- how far it is -----------------------------------------------------------------------------------------------

    def lag(self) -> Mapping[str, int | None]:
        """Records of each lane that are not finished, as committed; None: not known, for there is no such topic.

        Raises:
            ServerError: not answered.
        """
        ends, done = self._offsets(OffsetSpec.latest()), self._finished()
        starts = self._offsets(OffsetSpec.earliest())
        found: dict[str, int | None] = dict.fromkeys(self._lanes.values())
        for place, end in ends.items():
            low, above = done.get(place, (0, 0))
            if low > end:
                low, above = 0, 0
            lane = self._lanes[place.topic]
            found[lane] = (found[lane] or 0) + max(end - max(low, starts[place]) - above, 0)
        return found

    def trim(self) -> int:
        """Delete what is finished for good: everything below the group's low-water marks. Returns how many records.

        Raises:
            ServerError: not answered, or not allowed to.
        """
        starts, ends, done = (
            self._offsets(OffsetSpec.earliest()),
            self._offsets(OffsetSpec.latest()),
            self._finished(),
        )
        behind = {
            place: low
            for place, (low, _) in done.items()
            if place in starts and starts[place] < low <= ends[place]
        }
        if not behind:
            return 0
        marks = [TopicPartition(place.topic, place.partition, low) for place, low in behind.items()]
        try:
            for future in self._admin.delete_records(marks, operation_timeout=ASK).values():
                _result(future)
        except KafkaException as error:
            raise not_asked(of_exception(error), "delete finished records", self._address) from error
        return sum(low - starts[place] for place, low in behind.items())

    def _offsets(self, spec: Any) -> dict[TopicPartition, int]:
        try:
            cluster = self._admin.list_topics(timeout=ASK)
            places = [
                TopicPartition(topic, number)
                for topic in self._lanes
                if topic in cluster.topics
                for number in cluster.topics[topic].partitions
            ]
            if not places:
                return {}
            asked = self._admin.list_offsets(dict.fromkeys(places, spec), request_timeout=ASK)  # pyright: ignore[reportArgumentType]  # its stub asks for a dict of exactly that
            return {place: int(_result(future).offset) for place, future in asked.items()}
        except KafkaException as error:
            raise not_asked(of_exception(error), "tell the ends of its topics", self._address) from error

    def _finished(self) -> dict[TopicPartition, tuple[int, int]]:
        """(low-water mark, how many are finished above it) of each partition of which anything is committed."""
        try:
            asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self._group)])
            partitions = _result(asked[self._group]).topic_partitions or []
            ids = topic_ids(self._admin, {partition.topic for partition in partitions} & set(self._lanes))
        except KafkaException as error:
            if of_exception(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return {}
            raise not_asked(of_exception(error), "tell what is finished", self._address) from error
        found: dict[TopicPartition, tuple[int, int]] = {}
        for partition in partitions:
            topic_id = ids.get(partition.topic, "")
            known = partition.topic in self._lanes and partition.offset >= 0
            if known and not is_other_topic(partition.metadata, topic_id):
                runs = decode(partition.offset, partition.metadata, topic_id)
                place = TopicPartition(partition.topic, partition.partition)
                found[place] = (partition.offset, sum(stop - start for start, stop in runs))
        return found


def of_broker(settings: Mapping[str, str]) -> list[str]:
    """Pure: what is wrong with a broker."""
    found: list[str] = []
    minutes = int(settings.get("offsets.retention.minutes", OFFSETS_RETENTION))
    if minutes < OFFSETS_RETENTION:
        found.append(
            f"the broker forgets what a group has finished after {minutes} minutes without a worker (offsets.retention.minutes), and "
            f"then every record runs again: set it to {OFFSETS_RETENTION} or more"
        )
    if int(settings.get("offset.metadata.max.bytes", 4096)) < 4096:
        found.append(
            "the broker takes less than 4096 bytes beside a committed offset (offset.metadata.max.bytes), so a commit of many jobs that "
            "ended out of order is refused and they run again after a crash: set it to 4096"
        )
    if settings.get("auto.create.topics.enable") == "true":
        found.append(
            "the broker makes a topic of its own defaults for whoever names one (auto.create.topics.enable): set it to false, or a topic "
            "may be made with a retention that loses jobs"
        )
    return found


def of_topic(topic: str, settings: Mapping[str, str], copies: int, brokers: int) -> list[str]:
    """Pure: what is wrong with a topic, as it is set up and of as many copies, on as many brokers."""
    found: list[str] = []
    retention = int(settings.get("retention.ms", -1))
    if 0 <= retention < RETENTION:
        found.append(
            f"{topic} deletes jobs after {retention / 3_600_000:.3g} hours, run or not (retention.ms): set it to -1, flowq deletes what is "
            "finished"
        )
    if int(settings.get("retention.bytes", -1)) >= 0:
        found.append(
            f"{topic} deletes its oldest jobs, run or not, when it is full (retention.bytes): set it to -1"
        )
    if "compact" in settings.get("cleanup.policy", "delete"):
        found.append(
            f"{topic} is compacted (cleanup.policy), which is for tables, not for jobs: set it to delete"
        )
    insync = int(settings.get("min.insync.replicas", 1))
    if copies == 1 and brokers > 1:
        found.append(
            f"{topic} has one copy: its jobs are lost with its broker. Give it three (kafka-reassign-partitions), and "
            "min.insync.replicas=2"
        )
    elif copies > 1 and insync < 2:
        found.append(
            f"{topic} confirms a job when one broker has it (min.insync.replicas={insync}), and then loses it with that broker: set it to 2"
        )
    elif copies > 1 and insync >= copies:
        found.append(
            f"{topic} refuses jobs as soon as one of its {copies} brokers is away (min.insync.replicas={insync}): set it to {copies - 1}"
            if copies > 2
            else f"{topic} has two copies and refuses jobs as soon as one broker is away (min.insync.replicas=2): give it three"
        )
    if settings.get("unclean.leader.election.enable") == "true":
        found.append(
            f"{topic} may lose confirmed jobs when a broker dies (unclean.leader.election.enable): set it to false"
        )
    return found


def topic_ids(admin: AdminClient, topics: Collection[str]) -> dict[str, str]:
    """By name; without those that the broker does not know, or of which it knows no id (before Kafka 2.8).

    Raises:
        KafkaException: not answered.
    """
    if not topics:
        return {}
    found: dict[str, str] = {}
    asked = admin.describe_topics(TopicCollection(sorted(topics)), request_timeout=ASK)
    for name, future in asked.items():
        try:
            text = str(_result(future).topic_id)
        except KafkaException as error:
            if of_exception(error).code() not in _NO_ANSWER:
                raise
        else:
            if text != _NO_ID:
                found[name] = text
    return found


def _values(entries: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry.value for name, entry in entries.items() if entry.value is not None}


def _result(future: Future[T]) -> T:
    """What was asked for.

    Raises:
        KafkaException: refused, or not answered in time.
    """
    try:
        return future.result(ASK + 1)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
