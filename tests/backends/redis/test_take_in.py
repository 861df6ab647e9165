"""Jobs that come by another road are stored once each, in order, and only while the lane has room."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flowq.backends.redis import scripts

from .conftest import Server

Take = Callable[..., int]


@pytest.fixture
def take(server: Server, key: str) -> Take:
    """Take in jobs of these numbers."""

    def call(*numbers: int, most: int = 10) -> int:
        jobs = [(f"lane:k7-{n}", json.dumps({"id": f"lane:k7-{n}", "a": [n]}).encode()) for n in numbers]
        args = scripts.take_in("lane", most, jobs)
        return int(scripts.TAKE_IN.call_sync(server.address.sync_client(), [f"flowq:{{{key}}}:clock"], args))

    return call


def waiting(server: Server, key: str) -> list[int]:
    rows: Any = server.client().xrange(f"flowq:{{{key}}}:s:lane")
    return [json.loads(fields["d"])["a"][0] for _, fields in rows]


def test_each_once_and_in_order(server: Server, key: str, take: Take) -> None:
    """What is sent again, whole or in part, is taken care of and not stored."""
    assert take(1, 2, 3) == 3
    assert take(2, 3, 4) == 3
    assert waiting(server, key) == [1, 2, 3, 4]


def test_no_more_than_may_wait(server: Server, key: str, take: Take) -> None:
    """The first ones fit; those that are known need no room."""
    assert take(1, 2, 3, 4, most=3) == 3
    assert take(4, most=3) == 0
    assert take(1, 3, 4, most=3) == 2
    assert waiting(server, key) == [1, 2, 3]


def test_one_that_has_ended_does_not_come_back(server: Server, key: str, take: Take) -> None:
    """Its record says so."""
    server.client().set(f"flowq:{{{key}}}:r:lane:k7-1", "{}")
    assert take(1, 2) == 2
    assert waiting(server, key) == [2]


def test_a_strangers_record_is_stored_as_it_is(server: Server, key: str) -> None:
    """Without an id of ours it cannot be known again; its dead letter will show it."""
    args = scripts.take_in("lane", 5, [("", b"\xff no JSON"), ("", b"\xff no JSON")])
    assert scripts.TAKE_IN.call_sync(server.address.sync_client(), [f"flowq:{{{key}}}:clock"], args) == 2
    assert server.client().xlen(f"flowq:{{{key}}}:s:lane") == 2


def test_a_delivered_job_makes_room(server: Server, key: str, take: Take) -> None:
    """Jobs that run are not waiting."""
    assert take(1, 2, most=2) == 2
    client = server.client()
    client.xgroup_create(f"flowq:{{{key}}}:s:lane", "flowq", "0")
    client.xreadgroup("flowq", "m", {f"flowq:{{{key}}}:s:lane": ">"}, count=1)
    assert take(3, 4, most=2) == 1
