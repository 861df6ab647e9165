"""``flowq doctor``: it is silent where all agrees, and sees each thing that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.stage import Ran, Stage, policy
from tests.conftest import RedisServer

Run = Callable[..., Ran]


def findings(flowq: Run) -> tuple[int, list[tuple[str, str, str]]]:
    ran = flowq("doctor", "--json")
    said: dict[str, Any] = json.loads(ran.out)
    rows = [(f["level"], f["topic"], f["message"]) for f in said["findings"]]
    return ran.code, [row for row in rows if row[1] != "server"]


def test_a_busy_app_is_well(stage: Stage, flowq: Run) -> None:
    """Running, ready, delayed, retried, dead, handed-back and orphaned jobs at once: no finding, exit code 0."""
    me = stage.join(resize=policy(limit=3), email=policy())
    gone = stage.join(resize=policy(limit=3), email=policy())
    for n in range(6):
        stage.submit("resize", n)
    stage.submit("email", delay=60, key="k")
    stage.submit("email")
    mine = stage.claim(me, room=2)
    stage.bury(me, mine[0])
    stage.claim(gone)
    stage.expire(gone)
    stage.claim(me, room=0)

    assert findings(flowq) == (0, [])


def test_one_who_left_is_no_finding(stage: Stage, flowq: Run) -> None:
    """What a leaving worker hands back is adoptable, and marked where it must be."""
    me = stage.join(resize=policy(limit=3))
    other = stage.join(resize=policy(limit=3))
    stage.submit("resize")
    stage.claim(me)
    stage.leave(me)

    assert findings(flowq) == (0, [])
    assert len(stage.claim(other)) == 1


@pytest.mark.parametrize(
    ("spoil", "level", "topic", "says"),
    [
        (lambda s, _: s.client.srem(s.keys.orphans, "resize"), "fail", "resize", "nobody will look there"),
        (
            lambda s, e: s.client.xack(s.keys.stream("resize"), "flowq", e),
            "fail",
            "resize",
            "belong to nobody",
        ),
        (lambda s, _: s.client.zadd(s.keys.delayed, {"resize:d1-1": 1}), "fail", "delayed", "must be equal"),
        (
            lambda s, _: s.client.hset(s.keys.moved, "resize:1-1", "9-9"),
            "warn",
            "moved",
            "not there any more",
        ),
        (
            lambda s, _: s.client.hset(s.keys.cancels, "resize|9-9", "x"),
            "warn",
            "cancels",
            "not there any more",
        ),
        (
            lambda s, _: s.client.hset(s.keys.crashes("resize"), "9-9", 1),
            "warn",
            "crashes:resize",
            "not there any more",
        ),
        (lambda s, _: s.client.set(s.keys.prefix + "zz", 1), "warn", "keys", "is not a key of this layout"),
        (lambda s, _: s.client.set(s.keys.record("resize:1-1"), "{}"), "warn", "keys", "has no TTL"),
        (
            lambda s, _: s.client.hset(s.keys.limits, "resize", 0),
            "warn",
            "resize",
            "1 jobs are in flight at limit 0",
        ),
        (lambda s, _: s.client.hset(s.keys.serve, "resize", "gone"), "fail", "pools", "which does not exist"),
        (lambda s, _: s.client.zrem(s.keys.members, ""), "warn", "members", "the list of members is gone"),
        (lambda s, _: s.client.hset(s.keys.clock, "schema", 9), "fail", "layout", "of layout 9"),
        (
            lambda s, _: [s.client.delete(k) for k in s.client.scan_iter(match=s.keys.ready("*"))],
            "fail",
            "resize",
            "was not told",
        ),
    ],
)
def test_each_disagreement_is_seen(
    stage: Stage, flowq: Run, spoil: Callable[[Stage, bytes], object], level: str, topic: str, says: str
) -> None:
    """What is spoiled in one of two places is found, by its name; a failure is exit code 1."""
    stage.submit("resize")
    me = stage.join(resize=policy(limit=1))
    held = stage.claim(me)[0]
    other = stage.join(resize=policy(limit=1))
    stage.submit("resize")
    stage.leave(me)
    if says == "1 jobs are in flight at limit 0":
        stage.claim(other)
    before = [row for row in findings(flowq)[1] if row[0] == "fail"]

    spoil(stage, held.entry.encode())
    code, found = findings(flowq)

    assert before == []
    assert any(row[0] == level and row[1] == topic and says in row[2] for row in found), found
    assert code == (1 if any(row[0] == "fail" for row in found) else 0)


def test_a_server_that_is_not_fit(
    stage: Stage, flowq: Run, new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eviction policy that deletes jobs fails; a missing append-only file is a warning; both say what to set."""
    unfit = new_redis("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    there = Stage(unfit.url, stage.name)
    there.submit("resize")
    monkeypatch.setenv("FLOWQ_URL", unfit.url)

    ran = flowq("doctor")
    there.client.close()

    assert ran.code == 1
    assert "maxmemory-policy is allkeys-lru" in ran.out
    assert "appendonly yes" in ran.out
