"""``flowq limits``, ``pause``, ``resume``: limits changed from outside hold for the very next claim."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.stage import Ran, Stage, policy

Run = Callable[..., Ran]


def test_set_and_reset(stage: Stage, flowq: Run) -> None:
    """A set limit holds for the next claim and survives the member that declared another; reset brings the declared one back."""
    for n in range(9):
        stage.submit("resize", n)
    me = stage.join(resize=policy(limit=3))

    said = flowq("limits", "set", "resize", "5")
    first = stage.claim(me)
    back = flowq("limits", "reset", "resize")
    row = json.loads(flowq("limits", "--json").out)[0]

    assert "in force is 5" in said.out
    assert len(first) == 5
    assert "in force is 3" in back.out
    assert (row["in_force"], row["override"], row["declared"]) == (3, None, [3])


def test_a_limit_on_a_type_that_had_none(stage: Stage, flowq: Run) -> None:
    """It is in force at once; reset makes the type unlimited again."""
    for n in range(4):
        stage.submit("resize", n)
    me = stage.join(resize=policy())

    flowq("limits", "set", "resize", "1")
    granted = len(stage.claim(me))
    back = flowq("limits", "reset", "resize")

    assert granted == 1
    assert "in force is unlimited" in back.out


def test_pause_keeps_the_limit(stage: Stage, flowq: Run) -> None:
    """Nothing starts while paused, jobs are still accepted, and the limit is what it was after resuming."""
    me = stage.join(resize=policy(limit=2))
    flowq("pause", "resize")
    for n in range(3):
        stage.submit("resize", n)

    paused = len(stage.claim(me))
    ran = flowq("resume", "resize")

    assert paused == 0
    assert "in force is 2" in ran.out
    assert len(stage.claim(me)) == 2


def test_an_unknown_type_is_refused(stage: Stage, flowq: Run) -> None:
    """A misspelt type is an error with the names that exist; nothing is written."""
    stage.submit("resize")

    for words in (
        ("limits", "set", "resise", "1"),
        ("limits", "reset", "resise"),
        ("pause", "resise"),
        ("resume", "resise"),
    ):
        ran = flowq(*words)
        assert ran.code == 78
        assert "no type 'resise'" in ran.err
    assert not stage.client.exists(stage.keys.override, stage.keys.paused)


def test_a_negative_limit_is_a_usage_error(stage: Stage, flowq: Run) -> None:
    """0 is allowed (nothing starts), less is not."""
    stage.submit("resize")

    assert flowq("limits", "set", "resize", "0").code == 0
    assert flowq("limits", "set", "resize", "--", "-1").code == 2
