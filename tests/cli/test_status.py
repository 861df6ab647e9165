"""``flowq status`` and ``flowq apps`` against a real server, without any worker's code."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import pytest

from flowq.backends.redis import scripts
from tests.cli.stage import Ran, Stage, policy

Run = Callable[..., Ran]


def status_json(flowq: Run, *words: str) -> dict[str, object]:
    ran = flowq("status", "--json", *words)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["version"] == 1
    return said["app"]


def one_type(app: dict[str, object], name: str) -> dict[str, object]:
    return next(t for t in app["types"] if t["name"] == name)


def test_a_type_that_nobody_serves_is_named(stage: Stage, flowq: Run) -> None:
    """Jobs of a type without a worker wait, and status says so in words and in JSON."""
    stage.submit("resize", "a.png")

    found = one_type(status_json(flowq), "resize")
    page = flowq("status").out

    assert (found["ready"], found["served_by"], found["unserved"]) == (1, 0, True)
    assert found["oldest_waiting"] >= 0
    assert "resize: nobody serves it" in page
    assert "no workers" in page


def test_running_ready_and_by_worker(stage: Stage, flowq: Run) -> None:
    """At limit 2 two of five jobs run, by the worker that claimed them; three wait; the worker's facts are shown."""
    for n in range(5):
        stage.submit("resize", n)
    me = stage.join(resize=policy(limit=2), host="web-1", pid=4711)
    stage.claim(me)

    app = status_json(flowq)
    found = one_type(app, "resize")
    worker = app["workers"][0]
    page = flowq("status").out

    assert (found["running"], found["ready"], found["limit"]) == (2, 3, 2)
    assert found["running_by"] == {me.member: 2}
    assert found["longest"]["member"] == me.member
    assert (worker["host"], worker["pid"], worker["running"], worker["alive"]) == ("web-1", 4711, 2, True)
    assert 25 < worker["lease_left"] <= 30
    assert "web-1:4711×2" in page


def test_jobs_of_a_dead_worker_are_orphaned_not_running(stage: Stage, flowq: Run) -> None:
    """When a lease has ended its jobs count as orphaned, and its worker as ended, although no script has buried it yet."""
    stage.submit("resize")
    me = stage.join(resize=policy(limit=2))
    stage.claim(me)
    stage.expire(me)

    app = status_json(flowq)
    found = one_type(app, "resize")

    assert (found["running"], found["orphaned"], found["served_by"]) == (0, 1, 0)
    assert app["workers"][0]["alive"] is False
    assert "no worker is alive" in flowq("status").out


def test_handed_back_jobs_count_as_ready(stage: Stage, flowq: Run) -> None:
    """A job that a leaving worker handed back waits for the next one: ready, not running."""
    stage.submit("resize")
    me = stage.join(resize=policy())
    stage.claim(me)
    stage.leave(me)

    found = one_type(status_json(flowq), "resize")

    assert (found["ready"], found["running"], found["orphaned"]) == (1, 0, 0)


def test_limit_override_pause_and_disagreement(stage: Stage, flowq: Run) -> None:
    """What the code declares, what an operator set and what is paused are three facts; two declared limits are a disagreement."""
    stage.join(resize=policy(limit=3))
    stage.join(resize=policy(limit=5))

    both = one_type(status_json(flowq), "resize")
    flowq("limits", "set", "resize", "9")
    flowq("pause", "resize")
    paused = one_type(status_json(flowq), "resize")
    page = flowq("status").out

    assert (both["limit"], both["declared"], both["disagreement"]) == (3, [3, 5], True)
    assert (paused["limit"], paused["override"], paused["paused"]) == (0, 9, True)
    assert "paused (9)" in page


def test_delayed_jobs_and_the_earliest_due(stage: Stage, flowq: Run) -> None:
    """Delayed jobs are counted by type, with the time until the first is due."""
    stage.submit("resize", delay=60)
    stage.submit("resize", delay=600)
    stage.submit("other", delay=5)

    found = one_type(status_json(flowq), "resize")

    assert (found["delayed"], found["delayed_at_least"]) == (2, False)
    assert 55 < found["next_due"] <= 60


def test_dead_letters_and_rates(stage: Stage, flowq: Run) -> None:
    """Dead letters are counted by type; the last minutes' counters are shown over the time for which there are any."""
    stage.submit("resize")
    me = stage.join(resize=policy())
    stage.bury(me, stage.claim(me)[0])

    found = one_type(status_json(flowq), "resize")

    assert found["dead"] == 1
    assert found["recent"]["dead"] == found["total"]["dead"] == 1
    assert found["recent_seconds"] <= 361


def test_quarantine_is_said(stage: Stage, flowq: Run) -> None:
    """After the server forgot, the seconds for which limited types rest are shown."""
    stage.join(resize=policy(limit=1))
    clock = int(stage.client.hget(stage.keys.clock, "l"))
    stage.client.hset(stage.keys.clock, "q", clock + 5000)

    assert 0 < status_json(flowq)["quarantine"] <= 5
    assert "quarantine: the server forgot" in flowq("status").out


def test_the_last_failover_is_dated(stage: Stage, flowq: Run) -> None:
    """Since when no failover or restart has been noticed: nothing before the first worker, then since it joined, then since the epoch
    that a forgetful server began.
    """
    stage.submit("resize")
    assert status_json(flowq)["epoch_age"] is None
    assert "failover" not in flowq("status").out
    stage.join(resize=policy(limit=1))
    assert 0 <= status_json(flowq)["epoch_age"] < 30
    nonce, _, began = stage.client.hget(stage.keys.clock, "ep").decode().partition(".")
    stage.client.hset(stage.keys.clock, "ep", f"{nonce}.{int(began) - 3 * 3_600_000_000}")
    assert 10_800 <= status_json(flowq)["epoch_age"] < 10_830
    assert "stable 3h" in flowq("status").out
    assert flowq("status", "--check", "epoch_age>3600").code == 0

    stage.client.hset(stage.keys.clock, "run", "another")
    stage._call(scripts.HELLO, [secrets.token_hex(8)])

    assert 0 <= status_json(flowq)["epoch_age"] < 30
    assert flowq("status", "--check", "epoch_age>3600").code == 1


@pytest.mark.parametrize(
    ("check", "code"),
    [
        ("ready<=2", 0),
        ("ready<2", 1),
        ("resize.ready==2", 0),
        ("oldest_waiting<60", 0),
        ("workers>=1", 1),
        ("dead==0", 0),
        ("memory_percent<80", 0),
        ("unserved==0", 1),
    ],
)
def test_check_decides_by_exit_code(stage: Stage, flowq: Run, check: str, code: int) -> None:
    """``--check`` exits 1 exactly if its expression does not hold."""
    stage.submit("resize")
    stage.submit("resize")

    assert flowq("status", "--check", check).code == code


@pytest.mark.parametrize("check", ["ready", "ready<x", "readiness<3", "resize.workers>1", "nosuch.ready<1"])
def test_a_wrong_check_is_a_usage_error(stage: Stage, flowq: Run, check: str) -> None:
    """What cannot be understood is exit code 2 with the list of what can, never a passed check."""
    stage.submit("resize")

    ran = flowq("status", "--check", check)

    assert ran.code == 2
    assert ran.err


def test_apps_lists_names_and_namespaces(stage: Stage, flowq: Run) -> None:
    """Every app on the server, with its namespace."""
    stage.submit("resize")
    staging = Stage(stage.url, stage.name, "staging")
    staging.submit("resize")

    rows = json.loads(flowq("apps", "--json").out)
    mine = [(r["name"], r["namespace"], r["types"]) for r in rows if r["name"] == stage.name]

    assert mine == [(stage.name, None, 1), (stage.name, "staging", 1)]
    staging.client.close()


def test_an_app_that_is_not_there(stage: Stage, flowq: Run) -> None:
    """A wrong name is one line with the names that exist, and exit code 78."""
    stage.submit("resize")

    ran = flowq("status", "-n", "nosuch")

    assert ran.code == 78
    assert "has no app 'nosuch'" in ran.err
    assert stage.name in ran.err
    assert "Traceback" not in ran.err


def test_no_server_and_no_url(flowq: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing listening is 69, no URL and a bad one are 78; each is one line that says what to do."""
    away = flowq("status", "-u", f"unix://{tmp_path}/nobody.sock")
    bad = flowq("status", "-u", "http://localhost")
    monkeypatch.delenv("FLOWQ_URL")
    none = flowq("status")

    assert (away.code, bad.code, none.code) == (69, 78, 78)
    assert "cannot reach" in away.err
    assert "FLOWQ_URL" in none.err
    assert all(len(ran.err.strip().splitlines()) == 1 for ran in (away, bad, none))


def test_dead_letters_near_their_bound(stage: Stage, flowq: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 80 % of what is kept on, status and doctor say so; doctor does not fail for it."""
    monkeypatch.setattr("flowq.backends.redis.views.MANY_LETTERS", 4)
    me = stage.join(resize=policy())
    for n in range(4):
        assert "dead letters of at most" not in flowq("status").out
        assert "dead letters" not in flowq("doctor").out
        stage.submit("resize", n)
        stage.bury(me, stage.claim(me)[0])

    assert status_json(flowq)["letters"] == 4
    assert "! 4 dead letters of at most" in flowq("status").out
    doctor = flowq("doctor")
    assert (doctor.code, "warn  dead letters: there are 4" in doctor.out) == (0, True)


def test_crashes_of_the_last_hour(stage: Stage, flowq: Run) -> None:
    """A column of its own where there were any, also of 50 minutes ago; older ones are in the totals only."""
    stage.submit("resize")
    stage.submit("email")
    assert "crashes/h" not in flowq("status").out
    now = stage.client.time()[0] // 60
    for back, n in ((0, 1), (50, 2), (61, 4)):
        stage.client.hincrby(stage.keys.stats("resize", now - back), "crashed", n)
        stage.client.hincrby(stage.keys.stats("resize"), "crashed", n)

    app = status_json(flowq)

    assert [one_type(app, name)["crashes_per_hour"] for name in ("resize", "email")] == [3, 0]
    assert "crashes/h" in flowq("status").out
    assert flowq("status", "--check", "crashes_per_hour<3").code == 1


def test_skew_and_who_drains(stage: Stage, flowq: Run) -> None:
    """What members say of themselves is shown; one who is none any more leaves nothing behind."""
    gone, me = stage.join(resize=policy()), stage.join(resize=policy())
    stage.submit("resize")
    assert not any(word in flowq("status").out for word in ("skew", "drains"))

    for member in (gone, me):
        stage._call(scripts.NOTE, [member.member, int(member is me), "resize", 2])
    stage.leave(gone)
    assert stage._call(scripts.NOTE, [gone.member, 1, "resize", 7]) == 0

    app, page = status_json(flowq), flowq("status").out
    assert one_type(app, "resize")["recent"]["skewed"] == 4
    assert [worker["draining"] for worker in app["workers"]] == [True]
    assert "resize: 4 times in the last minutes a job did not fit" in page
    assert ", drains" in page
    assert flowq("status", "--check", "draining==1", "--check", "skewed==4").code == 0
    assert not stage.client.exists(stage.keys.member(gone.member))
