"""What librdkafka says, in flowq's words: each error once, at the border.

A producer's question is whether the record may be stored. ``NOT_STORED`` are the answers that a broker gives before it appends, and what
librdkafka says of a record that it did not send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from flowq._errors import (
    AuthenticationFailed,
    ConfigurationError,
    FlowqError,
    OutcomeUnknown,
    PayloadTooLarge,
    ServerError,
    ServerFull,
    Unavailable,
)

T = TypeVar("T")

NO_TOPIC: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)
TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)
NOT_STORED: Final = frozenset(
    {
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_RECORD,
        KafkaError._QUEUE_FULL,
        KafkaError._PURGE_QUEUE,
    }
)


def of_exception(error: KafkaException) -> KafkaError:
    """The error inside of an exception of the client."""
    found = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError.UNKNOWN, str(error))


def not_produced(error: KafkaError, topic: str, address: object) -> FlowqError:
    """Why a record was not, or perhaps not, stored."""
    code = error.code()
    if code in TOO_LARGE:
        return PayloadTooLarge(
            f"Kafka refuses a record of this size in {topic} ({error.str()}): raise max.message.bytes of the topic, or send a "
            "reference to the data instead of the data"
        )
    if code in NO_TOPIC:
        return Unavailable(
            f"there is no topic {topic} on {address}: start a worker of this app, which creates it, or create it yourself"
        )
    if code in FORBIDDEN:
        return AuthenticationFailed(f"{address} does not let this user write to {topic}: {error.str()}")
    if code in NOT_STORED:
        return Unavailable(f"{address} did not take the record for {topic}: {error.str()}")
    return OutcomeUnknown(
        f"{address} did not confirm the record for {topic} in time ({error.str()}): it may be stored"
    )


def not_asked(error: KafkaError, what: str, address: object) -> ServerError:
    """Why something that changes no record could not be done: safe to try again."""
    code = error.code()
    if code in FORBIDDEN:
        return AuthenticationFailed(f"{address} does not let this user {what}: {error.str()}")
    if code in NO_TOPIC:
        return Unavailable(
            f"{address} has no such topic, so it cannot {what}: start a worker, which creates it"
        )
    if code == KafkaError.POLICY_VIOLATION:
        return ServerFull(f"{address} does not {what}: its policy forbids it ({error.str()})")
    return Unavailable(f"{address} did not {what}: {error.str()}")


def made(kind: Callable[[dict[str, Any]], T], address: object, config: dict[str, Any]) -> T:
    """A client of that kind. It connects later: what fails here is the configuration.

    Raises:
        ConfigurationError: for example a file of certificates that cannot be read.
    """
    try:
        return kind(config)
    except (KafkaException, ValueError) as error:
        said = of_exception(error).str() if isinstance(error, KafkaException) else str(error)
        raise ConfigurationError(f"the broker's URL {address} cannot be used: {said}") from error
