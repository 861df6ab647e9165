"""Is this Redis fit to keep jobs? And what a finding of any check looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from flowq.backends.redis.views import ServerView

Level = Literal["fail", "warn"]

MEMORY_WARN, MEMORY_FAIL = 80, 95
"""Percent of maxmemory."""


@attrs.frozen
class Finding:
    """Something that does not agree. ``fail``: jobs can be lost, stuck or run too often; ``warn``: worth a look."""

    level: Level
    topic: str
    message: str


def of_server(server: ServerView) -> Iterator[Finding]:
    """Is this Redis fit to keep jobs?"""
    if server.kind == "redis" and _version(server.version) < (6, 2):
        yield Finding(
            "fail", "server", f"Redis {server.version} is too old: flowq needs 6.2 or newer, or Valkey"
        )
    if server.role != "master":
        yield Finding("fail", "server", f"this server is a {server.role}: point the URL at the primary")
    if server.eviction != "noeviction":
        yield Finding(
            "fail",
            "server",
            f"maxmemory-policy is {server.eviction}: under memory pressure Redis will delete jobs; set noeviction",
        )
    if not server.aof:
        yield Finding(
            "warn",
            "server",
            f"no append-only file (persistence: {server.persistence}): a crash of Redis loses jobs; set appendonly yes",
        )
    percent = server.memory_percent
    if percent is not None and percent >= MEMORY_WARN:
        level: Level = "fail" if percent >= MEMORY_FAIL else "warn"
        yield Finding(level, "server", f"memory is {percent} % full: at 100 % producers are refused")


def _version(said: str) -> tuple[int, ...]:
    return tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
