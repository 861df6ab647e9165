"""``flowq ls``, ``show``, ``why``, ``cancel``: one job, from outside."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.stage import Ran, Stage, policy

Run = Callable[..., Ran]


def test_ls_shows_each_state(stage: Stage, flowq: Run) -> None:
    """Running, ready and delayed jobs of a type, each with its state; ``--state`` picks one; other types are left out."""
    running = stage.submit("resize", "a.png")
    me = stage.join(resize=policy(limit=1), other=policy())
    stage.claim(me)
    ready = stage.submit("resize", "b.png")
    delayed = stage.submit("resize", "c.png", delay=60)
    stage.submit("other", delay=60)

    rows = json.loads(flowq("ls", "resize", "--json").out)
    only = json.loads(flowq("ls", "resize", "--state", "ready", "--json").out)

    assert [(r["id"], r["status"]) for r in rows] == [
        (running, "running"),
        (ready, "ready"),
        (delayed, "delayed"),
    ]
    assert rows[0]["member"] == me.member
    assert 55 < rows[2]["seconds"] <= 60
    assert [r["id"] for r in only] == [ready]


def test_ls_limit_says_that_there_are_more(stage: Stage, flowq: Run) -> None:
    """At most ``--limit`` rows, and a word that there are more."""
    for n in range(5):
        stage.submit("resize", n)

    ran = flowq("ls", "resize", "--limit", "2")

    assert ran.out.count("resize:") == 2
    assert "there are more" in ran.out


def test_ls_of_an_unknown_type(stage: Stage, flowq: Run) -> None:
    """A type that does not exist is an error with the names that do, not an empty list."""
    stage.submit("resize")

    ran = flowq("ls", "resise")

    assert ran.code == 78
    assert "no type 'resise' on " in ran.err
    assert "; its types: resize\n" in ran.err


def test_a_job_cannot_write_to_the_terminal(stage: Stage, flowq: Run) -> None:
    """Control characters in arguments never reach the screen."""
    job = stage.submit("resize", "\x1b]0;owned\x07")

    assert "\x1b" not in flowq("ls", "resize").out + flowq("show", job).out


@pytest.mark.parametrize("state", ["ready", "running", "delayed"])
def test_show_and_cancel_a_job(stage: Stage, flowq: Run, state: str) -> None:
    """A job is found by its id in each state, and cancelled: removed before it started, requested while it runs."""
    job = stage.submit("resize", "a.png", delay=60 if state == "delayed" else 0)
    me = stage.join(resize=policy())
    if state == "running":
        stage.claim(me)

    before = json.loads(flowq("show", job, "--json").out)
    answer = flowq("cancel", job, "--reason", "not needed")
    after = json.loads(flowq("show", job, "--json").out)

    assert (before["id"], before["status"]) == (job, state)
    assert before["envelope"]["args"] == ["a.png"]
    assert answer.code == 0
    if state == "running":
        assert "requested" in answer.out
        assert after["status"] == "cancelling"
    else:
        assert "removed" in answer.out
        assert (after["status"], after["record"]["reason"]) == ("cancelled", "not needed")
        assert "already" in flowq("cancel", job).out


def test_show_of_a_dead_job_has_its_letter(stage: Stage, flowq: Run) -> None:
    """The record, the reason and the traceback of a job that died."""
    job = stage.submit("resize", "a.png")
    me = stage.join(resize=policy())
    stage.bury(me, stage.claim(me)[0], traceback="Traceback: here\nValueError: no")

    page = flowq("show", job).out

    assert "status     dead" in page
    assert "ValueError: no" in page
    assert "Traceback: here" in page
    assert f"flowq dead replay {job}" in page
    assert page.count("ValueError: no\n") == 2, "as the reason and in the traceback, not told twice"


def test_show_says_since_when(stage: Stage, flowq: Run) -> None:
    """How long it has been ready or running, and when a delayed one is due."""
    later = stage.submit("resize", delay=3600)
    stage.submit("email")
    me = stage.join(email=policy())
    running = stage.claim(me)[0]

    assert "since      due in 60m" in flowq("show", later).out
    page = flowq("show", f"email:{running.entry}").out
    assert "since      0." in page
    assert f"worker     {me.member[:8]} on here" in page
    assert "(delivered 1 time, 0 crashes)" in page


def test_unknown_job_and_no_job_id(stage: Stage, flowq: Run) -> None:
    """A job that is not there is exit code 1 and says what that may mean; what is no id at all is told so."""
    stage.submit("resize")

    unknown = flowq("why", "resize:1-1")
    nonsense = flowq("show", "resize")

    assert unknown.code == 1
    assert "there never was such a job" in unknown.out
    assert nonsense.code == 2
    assert "is no job id" in nonsense.err


def test_why_names_each_obstacle(stage: Stage, flowq: Run) -> None:
    """Nobody serves it; the limit is reached, and how many are in front; paused: each is said with its way out."""
    first = stage.submit("resize")
    second = stage.submit("resize")
    third = stage.submit("resize")
    unserved = flowq("why", first).out
    me = stage.join(resize=policy(limit=1))
    stage.claim(me)

    running = flowq("why", first).out
    waiting = flowq("why", third).out
    flowq("pause", "resize")
    paused = flowq("why", second).out

    assert "no live worker serves resize" in unserved
    assert f"it is running: worker {me.member[:8]} on here, process 1" in running
    assert "the limit is reached: 1 of 1 are in flight" in waiting
    assert "ready jobs of its type in front of it: 1" in waiting
    assert "resize is paused: flowq resume resize" in paused


def test_why_of_busy_consumers_quarantine_and_delay(stage: Stage, flowq: Run) -> None:
    """No free consumer, a server that forgot, and a delay are said too."""
    me = stage.join(resize=policy(limit=9), concurrency=1)
    stage.submit("resize")
    stage.claim(me, room=1)
    job = stage.submit("resize")
    late = stage.submit("resize", delay=60)
    clock = int(stage.client.hget(stage.keys.clock, "l"))
    stage.client.hset(stage.keys.clock, "q", clock + 5000)

    waiting = flowq("why", job).out

    assert "all 1 consumers of the 1 workers that serve it are busy" in waiting
    assert "limited types start nothing for another" in waiting
    assert "it is delayed: due in" in flowq("why", late).out


def test_why_of_a_dead_workers_job(stage: Stage, flowq: Run) -> None:
    """A job in the hands of a dead worker is not called running."""
    job = stage.submit("resize")
    me = stage.join(resize=policy(limit=1))
    stage.claim(me)
    stage.expire(me)

    page = flowq("why", job).out

    assert "its worker is dead" in page
    assert "no live worker serves resize" in page
