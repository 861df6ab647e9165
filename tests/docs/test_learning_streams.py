"""docs/learning-streams.md: each command gives the reply that the page shows, on a real server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from tests.conftest import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "learning-streams.md"
BLOCK = re.compile(r"^```redis\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def conversation(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines of its reply."""
    lines: list[str] = []
    command = ""
    for line in "".join(BLOCK.findall(text)).splitlines():
        if line.startswith("> "):
            if command:
                yield command, lines
            command, lines = line[2:], []
        else:
            lines.append(line)
    yield command, lines


def as_redis_cli(reply: Any) -> list[str]:
    """As ``redis-cli`` prints it."""
    if isinstance(reply, list):
        shown = []
        for number, one in enumerate(reply, 1):
            mark = f"{number}) "
            first, *rest = as_redis_cli(one)
            shown += [mark + first, *(" " * len(mark) + line for line in rest)]
        return shown
    if isinstance(reply, int):
        return [f"(integer) {reply}"]
    text = reply.decode()
    return [text if text == "OK" else f'"{text}"']


def test_what_the_page_shows_is_what_the_server_says(new_redis: Callable[..., RedisServer]) -> None:
    """From an empty server on, in the page's order."""
    # RESP2, as redis-cli speaks it
    with redis.Redis(unix_socket_path=str(new_redis().socket), protocol=2) as client:
        connection = client.connection_pool.get_connection()
        count = 0
        for command, shown in conversation(PAGE.read_text()):
            connection.send_command(*shlex.split(command))
            assert as_redis_cli(connection.read_response(disable_decoding=True)) == shown, command
            count += 1
        client.connection_pool.release(connection)
    assert count > 20
