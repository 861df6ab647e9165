"""docs/migration/another-redis.md: its commands, in their order, between two servers; and the file that it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowq._jobfile import Footer, read_header, read_line
from flowq.cli import main
from tests.cli.stage import Stage
from tests.conftest import RedisServer
from tests.docs.manual import DOCS, commands

NAME = "migration/another-redis.md"
COMMANDS = commands(NAME)


def test_the_manuals_commands(
    new_redis: Callable[..., RedisServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There, a job ends, and back: nothing is lost, and what has ended does not come back."""
    old, new = Stage(new_redis().url, "shop"), Stage(new_redis().url, "shop")
    monkeypatch.setenv("FLOWQ_URL", old.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    ids = [old.submit("resize", n, delay=600 * (n % 2)) for n in range(10)]
    said: dict[str, str] = {}

    for command in COMMANDS:
        words = command.replace("redis://new:6379/0", new.url).split()
        if command.startswith("flowq purge"):
            assert main(["cancel", ids[0], "-n", "shop", "-u", new.url]) == 0
        assert main(words[1:]) == 0, command
        out, err = capsys.readouterr()
        said[command] = out + err

    texts = list(said.values())
    assert "10 jobs exported: 5 ready, 5 delayed" in texts[1]
    assert "10 jobs would be stored" in texts[2]
    assert "10 jobs stored" in texts[3]
    assert "10 jobs of resize are cancelled" in texts[6]
    assert "9 jobs exported: 4 ready, 5 delayed" in texts[7]
    assert "9 jobs stored\n9 of them given new ids" in texts[8]
    assert len(COMMANDS) == 9
    old.close()
    new.close()


def test_the_file_that_the_page_shows() -> None:
    """Each of its lines is read."""
    page = (DOCS / NAME).read_text()
    head, *lines = page.partition("```json\n")[2].partition("```")[0].encode().splitlines()
    assert read_header(head).app == "shop"
    jobs = [read_line(line) for line in lines]
    assert isinstance(jobs[-1], Footer)
    assert [json.loads(line)["id"] for line in lines[:-1]] == [
        job.id for job in jobs if not isinstance(job, Footer)
    ]
    assert jobs[-1].end == len(jobs) - 1
