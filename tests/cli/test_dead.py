"""``flowq dead``: looking at dead letters, replaying and dropping them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flowq.backends.redis import letters
from tests.cli.stage import Ran, Stage, envelope, policy

Run = Callable[..., Ran]


def died(stage: Stage, *args: object, lane: str = "resize", kind: str = "error", **more: object) -> str:
    """One dead job; its id."""
    job = stage.submit(lane, *args, **more)
    me = stage.join(**{lane: policy()})
    stage.bury(me, stage.claim(me)[0], kind=kind)
    stage.leave(me)
    return job


def test_ls_and_show(stage: Stage, flowq: Run) -> None:
    """Letters are listed newest first, by type and kind if asked; one is found by its job's id and by its own."""
    one, two = died(stage, 1), died(stage, 2, kind="timeout")
    died(stage, lane="email")

    rows = json.loads(flowq("dead", "ls", "--type", "resize", "--json").out)
    late = json.loads(flowq("dead", "ls", "--kind", "timeout", "--json").out)
    by_job = json.loads(flowq("dead", "show", one, "--json").out)
    by_letter = json.loads(flowq("dead", "show", by_job["letter"], "--json").out)

    assert [r["job"] for r in rows] == [two, one]
    assert [r["job"] for r in late] == [two]
    assert by_job == by_letter
    assert by_job["reason"] == "ValueError: no"


def test_replay_makes_a_fresh_job_and_removes_the_letter(stage: Stage, flowq: Run) -> None:
    """The job comes back under a new id, with its arguments and unknown fields, without attempts and expiry; once."""
    job = died(stage, "a.png", attempt=6, expires=1, future={"a": 1.0})

    ran = flowq("dead", "replay", job)
    again = flowq("dead", "replay", job)
    new = ran.out.split(" -> ")[1].strip()
    shown = json.loads(flowq("show", new, "--json").out)

    assert ran.code == 0
    assert new != job
    assert (shown["status"], shown["envelope"]) == (
        "ready",
        {"v": 1, "task": "resize", "args": ["a.png"], "future": {"a": 1.0}},
    )
    assert again.code == 1
    assert "no dead letter" in again.err
    assert stage.client.xlen(stage.keys.dead) == 0


def test_replay_rings_a_worker(stage: Stage, flowq: Run) -> None:
    """A live worker gets the replayed job at its next claim, and its doorbell rang."""
    job = died(stage)
    me = stage.join(resize=policy(limit=1))
    stage.claim(me)
    rings = sum(stage.client.xlen(key) for key in stage.client.scan_iter(match=stage.keys.bell("*")))

    flowq("dead", "replay", job)

    assert (
        sum(stage.client.xlen(key) for key in stage.client.scan_iter(match=stage.keys.bell("*"))) == rings + 1
    )
    assert len(stage.claim(me)) == 1


def test_replay_whose_key_is_taken_leaves_the_letter(stage: Stage, flowq: Run) -> None:
    """While another job holds the idempotency key, a replay would make a second one: it is refused and the letter stays."""
    job = died(stage, key="k")
    other = stage.submit("resize", key="k")

    ran = flowq("dead", "replay", job)

    assert ran.code == 1
    assert other in ran.err
    assert stage.client.xlen(stage.keys.dead) == 1
    assert stage.client.xlen(stage.keys.stream("resize")) == 1


def test_replayed_job_holds_its_key(stage: Stage, flowq: Run) -> None:
    """A replayed job with a key is unique again: a second submit with that key returns it."""
    job = died(stage, key="k")

    new = flowq("dead", "replay", job).out.split(" -> ")[1].strip()

    assert stage.submit("resize", key="k") == new


def test_replay_sent_twice_makes_one_job(stage: Stage) -> None:
    """The script is safe to send again after a lost reply: the second one finds no letter."""
    died(stage)
    head = next(letters.heads(stage.client, stage.keys))
    letter = letters.find(stage.client, stage.keys, head.letter)
    assert letter is not None

    first = letters.replay(stage.client, stage.keys, letter)
    second = letters.replay(stage.client, stage.keys, letter)

    assert first.job is not None
    assert second.job is None
    assert stage.client.xlen(stage.keys.stream("resize")) == 1


def test_replay_all_of_a_type(stage: Stage, flowq: Run) -> None:
    """``--type`` replays a whole type, oldest first; without any choice nothing happens."""
    jobs = [died(stage, n) for n in range(3)]
    died(stage, lane="email")

    nothing = flowq("dead", "replay")
    ran = flowq("dead", "replay", "--type", "resize")

    assert nothing.code == 2
    assert [line.split(" -> ")[0] for line in ran.out.splitlines()] == jobs
    assert [json.loads(d[b"d"])["args"] for _, d in stage.client.xrange(stage.keys.stream("resize"))] == [
        [0],
        [1],
        [2],
    ]
    assert stage.client.xlen(stage.keys.dead) == 1


def test_an_undecodable_job_is_shown_and_replayed_as_it_is(stage: Stage, flowq: Run) -> None:
    """What is no JSON is shown by its bytes, and goes back byte for byte: a newer worker may read it."""
    died(stage, raw=b"\xffnot json", kind="undecodable")

    shown = flowq("dead", "show", next(letters.heads(stage.client, stage.keys)).letter)
    ran = flowq("dead", "replay", "--all")

    assert "xffnot json" in shown.out
    assert ran.code == 0
    assert stage.client.xrange(stage.keys.stream("resize"))[0][1] == {b"d": b"\xffnot json"}


def test_drop(stage: Stage, flowq: Run) -> None:
    """Dropped letters are gone, and how many is said; without any choice nothing happens."""
    one = died(stage, 1)
    died(stage, 2)

    assert flowq("dead", "drop").code == 2
    assert "1 dead letter dropped" in flowq("dead", "drop", one).out
    assert "1 dead letter dropped" in flowq("dead", "drop", "--all").out
    assert stage.client.xlen(stage.keys.dead) == 0


def test_what_is_not_there_is_said(stage: Stage, flowq: Run) -> None:
    """A slip of the pen in a type or a kind is an error, a letter that has gone exit code 1; the others are done all the same."""
    one, two = died(stage, 1), died(stage, 2)

    assert flowq("dead", "replay", "--type", "resise").code == 78
    assert "its types: resize" in flowq("dead", "ls", "--type", "resise").err
    assert "'eror' is no kind of failure; there are error," in flowq("dead", "ls", "--kind", "eror").err
    assert flowq("dead", "replay", "--kind", "timeout").out == "no dead letters\n"
    gone = flowq("dead", "show", "resize:1-1")
    assert (gone.code, gone.err.count("\n")) == (1, 1)
    assert "there is no dead letter 'resize:1-1'" in gone.err
    ran = flowq("dead", "replay", "resize:1-1", one)
    assert (ran.code, ran.out.startswith(f"{one} -> ")) == (1, True)
    ran = flowq("dead", "drop", "resize:1-1", two)
    assert (ran.code, ran.out) == (1, "1 dead letter dropped\n")


@pytest.mark.parametrize("count", [3, 2500])
def test_letters_are_paged(stage: Stage, count: int) -> None:
    """Every letter is found once, newest first, over page borders."""
    with stage.client.pipeline(transaction=False) as pipe:
        for n in range(count):
            pipe.xadd(
                stage.keys.dead,
                {"lane": "resize", "id": f"resize:{n}-0", "kind": "error", "d": envelope("resize")},
            )
        pipe.execute()

    found = [head.job for head in letters.heads(stage.client, stage.keys)]

    assert found == [f"resize:{n}-0" for n in reversed(range(count))]
    assert letters.count_letters(stage.client, stage.keys, 2000) == (
        {"resize": min(count, 2000)},
        count > 2000,
    )
