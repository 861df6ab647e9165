"""docs/migration/from-legacy.md: its commands, in their order, on the layout that v0.0.4 had."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowq.backends.redis.url import parse_url
from flowq.cli import main
from tests.conftest import RedisServer
from tests.docs.manual import commands


def test_the_manuals_commands(
    new_redis: Callable[..., RedisServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A dry run, the move, the check, a rehearsal of the way back, the way back: each says what the page says."""
    server = new_redis()
    monkeypatch.setenv("FLOWQ_URL", server.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    client = parse_url(server.url).sync_client()
    for n in range(450):
        client.hset(f"task:{n}", mapping={"name": "resize", "args": f'["image-{n}.png"]'})
        client.zadd("tasks:status:pending", {str(n): time.time() - 450 + n})

    said = []
    for command in commands("migration/from-legacy.md"):
        assert main(command.split()[1:]) == 0, command
        said.append(capsys.readouterr().out)

    dry, moved, verified, rehearsed, back = said
    assert "450 tasks would be moved, of 450 in the set" in dry
    assert "450 tasks are moved" in moved
    assert "moved: 450 tasks, 450 jobs; 450 wait or run, 0 have ended" in verified
    assert "450 tasks would go back" in rehearsed
    assert "450 tasks are back in tasks:status:pending; 0 had begun" in back
    assert client.zcard("tasks:status:pending") == 450
    assert client.xlen("flowq:{shop}:s:resize") == 0
    client.close()
