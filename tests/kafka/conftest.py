"""A broker for the run, topics of a test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kafka.broker import KafkaBroker, running_broker, shared_broker
from tests.kafka.distribution import why_not

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only where they are asked for, as ``nox -s kafka`` does: a JVM and its brokers beside four processes of other tests starve both."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))
            if "FLOWQ_KAFKA" not in os.environ:
                item.add_marker(pytest.mark.skip(reason="on a real broker: nox -s kafka"))


def runnable() -> None:
    """Skip where no broker can run; in CI that is an error, or a green run would say nothing."""
    if reason := why_not():
        if os.environ.get("CI"):
            raise RuntimeError(f"{reason}, and CI is set")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """The run's broker, shared by all processes of pytest-xdist. Tests that kill one start their own with ``new_broker``."""
    runnable()
    base = tmp_path_factory.getbasetemp()
    with shared_broker((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka") as broker:
        yield broker


@pytest.fixture
def new_broker() -> Iterator[Callable[..., KafkaBroker]]:
    """Start a broker for this test alone: ``new_broker(message_max_bytes="5000")``."""
    runnable()
    with ExitStack() as stack:
        yield lambda **properties: stack.enter_context(running_broker(**properties))


@pytest.fixture
def topic(kafka_broker: KafkaBroker) -> Iterator[str]:
    """A fresh topic of four partitions."""
    name = kafka_broker.make_topic()
    yield name
    admin = kafka_broker.admin()
    if name in admin.list_topics(timeout=10).topics:
        admin.delete_topics([name])[name].result(20)
