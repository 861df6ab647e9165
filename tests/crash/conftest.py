"""What the crash tests start: a server of each test's own, and a fleet on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RedisServer, running_redis
from tests.crash.fleet import Fleet, fleet_of

AOF = ("--appendonly", "yes", "--appendfsync", "always")
"""What was answered has been written."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The workers' backend is the test's parameter; the test itself only watches."""
    return "trio"


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, with an AOF that is synced before each reply."""
    with running_redis(*AOF, folder=tmp_path) as running:
        yield running


@pytest.fixture
def fleet(server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(server.url, tmp_path, ttl=2.0) as running:
        yield running
