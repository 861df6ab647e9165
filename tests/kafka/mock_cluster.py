"""librdkafka's mock cluster, by ctypes: brokers within this process that fail as they are told to.

Not Kafka: for faults that a real broker gives to nobody on demand. The symbols are those that the wheel of confluent-kafka exports.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import confluent_kafka


class Api(IntEnum):
    """Kinds of requests."""

    PRODUCE = 0
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    HEARTBEAT = 12


def library() -> Path | None:
    """The shared library of the installed wheel; None: this platform's wheel is laid out otherwise."""
    package = Path(confluent_kafka.__file__).parent
    return next(iter(sorted(package.parent.glob("confluent_kafka.libs/librdkafka-*.so*"))), None)


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, text, whole = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "conf_new": (pointer, []),
        "new": (pointer, [whole, pointer, text, ctypes.c_size_t]),
        "destroy": (None, [pointer]),
        "mock_cluster_new": (pointer, [pointer, whole]),
        "mock_cluster_destroy": (None, [pointer]),
        "mock_cluster_bootstraps": (text, [pointer]),
        "mock_topic_create": (whole, [pointer, text, whole, whole]),
        "mock_broker_set_down": (whole, [pointer, ctypes.c_int32]),
        "mock_broker_set_up": (whole, [pointer, ctypes.c_int32]),
        "mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(whole)],
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


class MockCluster:
    """One broker."""

    def __init__(self, path: Path) -> None:
        self._library = _load(path)
        said = ctypes.create_string_buffer(512)
        self._handle = self._library.rd_kafka_new(0, self._library.rd_kafka_conf_new(), said, 512)
        assert self._handle, said.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def url(self) -> str:
        return "kafka://" + str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def make_topic(self, name: str, partitions: int = 4) -> str:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0
        return name

    def fail(self, api: Api, *errors: int) -> None:
        """The next requests of that kind are answered so, each with one of the errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, api, len(errors), array)

    def down(self) -> None:
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


@contextmanager
def running_mock(path: Path) -> Iterator[MockCluster]:
    cluster = MockCluster(path)
    try:
        yield cluster
    finally:
        cluster.close()
