"""A stage of one app, and the command line in this process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from flowq.cli import main
from tests.cli.stage import Ran, Stage
from tests.conftest import RedisServer


@pytest.fixture
def stage(redis_server: RedisServer) -> Iterator[Stage]:
    """An app that nobody else uses; its keys are gone after the test."""
    made = Stage(redis_server.url, "c" + secrets.token_hex(5))
    yield made
    made.close()


@pytest.fixture
def flowq(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run a command line against the stage's app, as on a wide screen without colours."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FLOWQ_URL", stage.url)
    monkeypatch.setenv("FLOWQ_NAME", stage.name)

    def run(*words: str) -> Ran:
        code = main(words)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
