"""``flowq purge``: what has not started is cancelled, what runs is not touched, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flowq.backends.redis import purging
from tests.cli.stage import Ran, Stage, policy
from tests.conftest import leaks

Run = Callable[..., Ran]


def test_ready_and_delayed_jobs_are_cancelled(stage: Stage, flowq: Run) -> None:
    """Never delivered, handed back, delayed, waiting for a retry; with keys freed and an outcome recorded. Running ones and other
    types go on.
    """
    gone, me = stage.join(resize=policy()), stage.join(resize=policy(), email=policy())
    jobs = [stage.submit("resize", n) for n in range(4)]
    handed_back = {d.entry for d in stage.claim(gone, room=2)}
    stage.leave(gone)
    running = stage.claim(me, room=1)
    jobs += [stage.submit("resize", delay=60, key="k"), stage.submit("resize", key="l")]
    other = [stage.submit("email"), stage.submit("email", delay=60)]
    assert handed_back

    ran = flowq("purge", "resize", "--yes", "--reason", "no more")

    mine = f"resize:{running[0].entry}"
    assert (ran.code, ran.out) == (0, "5 jobs of resize are cancelled and will not start; 1 run on\n")
    for job in jobs:
        said = json.loads(flowq("show", job, "--json").out)
        assert said["status"] == ("running" if job == mine else "cancelled")
        if job != mine:
            assert said["record"]["reason"] == "no more"
    assert [json.loads(flowq("show", job, "--json").out)["status"] for job in other] == ["ready", "delayed"]
    assert not stage.client.exists(stage.keys.prefix + "u:resize:k", stage.keys.prefix + "u:resize:l")
    assert stage.client.hget(stage.keys.stats("resize"), "cancelled") == b"5"
    assert flowq("purge", "resize", "--yes").out.startswith("0 jobs")
    assert flowq("purge", "email", "-y").out.startswith("2 jobs of email")
    assert flowq("doctor").code == 0


def test_many_of_them_in_several_steps(
    stage: Stage, flowq: Run, monkeypatch: pytest.MonkeyPatch, redis_server: object
) -> None:
    """More than one step takes, of a type that nobody has served yet; nothing stays but the records."""
    monkeypatch.setattr(purging, "STEP", 7)
    for n in range(30):
        stage.submit("resize", n)
        stage.submit("resize", n, delay=60)

    assert flowq("purge", "resize", "--yes").out == "60 jobs of resize are cancelled and will not start\n"
    assert stage.client.xlen(stage.keys.stream("resize")) == 0
    with redis_server.client() as client:
        left = leaks(client, stage.name)
    assert left == []


def test_a_worker_serves_on_after_it(stage: Stage, flowq: Run) -> None:
    """The stream, its group and the hints are as if the jobs had ended."""
    me = stage.join(resize=policy(limit=2))
    for n in range(5):
        stage.submit("resize", n)
    flowq("purge", "resize", "--yes")
    stage.submit("resize", "new")
    assert len(stage.claim(me)) == 1
    assert flowq("doctor").code == 0


def test_what_dead_workers_hold_is_left(stage: Stage, flowq: Run) -> None:
    """It may still run; it is said what to do."""
    me = stage.join(resize=policy())
    stage.submit("resize")
    stage.claim(me)
    stage.expire(me)
    stage.submit("resize")

    said = flowq("purge", "resize", "--yes").out

    assert said.startswith("1 job of resize is cancelled")
    assert "1 are in the hands of dead workers" in said


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_it_asks_first(
    stage: Stage, flowq: Run, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    """With the numbers; no, or nobody there to answer, changes nothing and ends with exit code 1."""
    import io

    stage.submit("resize")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))

    ran = flowq("purge", "resize")

    assert "cancel 1 ready and 0 delayed jobs of resize?" in ran.out
    assert ran.code == (1 if left else 0)
    assert stage.client.xlen(stage.keys.stream("resize")) == left


def test_an_unknown_type(stage: Stage, flowq: Run) -> None:
    """Is said; nothing is asked."""
    stage.submit("resize")
    ran = flowq("purge", "resise", "--yes")
    assert ran.code == 78
    assert "has no type 'resise'" in ran.err
