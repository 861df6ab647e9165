"""What two looks at the app tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import flowq
from flowq._core.outlook import Reading, disagreements, limit_changes, step, unserved
from flowq._fleet import MOST_LETTERS, LaneSurvey, Survey


def look(
    limits: Mapping[str, int] | None = None,
    override: Mapping[str, int] | None = None,
    paused: tuple[str, ...] = (),
    lanes: tuple[LaneSurvey, ...] = (),
) -> Survey:
    return Survey(True, None, None, 0, limits or {}, override or {}, frozenset(paused), lanes)


@pytest.mark.parametrize(
    ("server", "took", "expected"),
    [
        (160.0, 0.0, 0.0),
        (160.9, 0.0, 0.0),  # a clock that is slewed
        (162.0, 5.0, 0.0),  # the answer took so long that it may be true
        (170.0, 0.2, 9.9),
        (100.0, 0.0, -60.0),
    ],
)
def test_a_step_of_the_servers_clock(server: float, took: float, expected: float) -> None:
    """A minute later by our clock: told is only what the time that the answers took cannot explain, and a second of slack."""
    before, after = Reading.of(100.0, 10.0, 10.0), Reading.of(server, 70.0, 70.0 + took)
    assert step(before, after) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (look({"a": 3}), look({"a": 3}), []),
        (look({"a": 3}), look({"a": 0}, paused=("a",)), [("a", 3, 0, "paused")]),
        (look({"a": 0}, paused=("a",)), look({}), [("a", 0, None, "resumed")]),
        (look(), look({"a": 5}, {"a": 5}), [("a", None, 5, "set")]),
        (look({"a": 5}, {"a": 5}), look({"a": 3}), [("a", 5, 3, "reset")]),
        (look({"a": 5, "b": 1}), look({"a": 3, "b": 2}), [("a", 5, 3, "declared"), ("b", 1, 2, "declared")]),
    ],
)
def test_a_changed_limit_and_why(
    before: Survey, after: Survey, expected: list[tuple[str, int | None, int | None, str]]
) -> None:
    """By an operator's hand, or by what the code of the live workers declares."""
    assert [(c.lane, c.before, c.after, c.why) for c in limit_changes(before, after)] == expected


def test_what_is_worth_telling_of_lanes() -> None:
    """Old jobs of a lane that nobody serves; limits that differ. Fresh jobs wait for a deploy, served ones for their turn."""
    lanes = (
        LaneSurvey("old", False, 3, 61.0, ()),
        LaneSurvey("fresh", False, 3, 59.0, ()),
        LaneSurvey("empty", False, 0, None, ()),
        LaneSurvey("busy", True, 9, 999.0, (3, 5)),
    )
    assert [lane.lane for lane in unserved(look(lanes=lanes))] == ["old"]
    assert [lane.lane for lane in disagreements(look(lanes=lanes))] == ["busy"]


def test_the_bound_of_the_dead_letters_is_the_scripts() -> None:
    """The script that trims them says the same number as the warning before it."""
    script = Path(flowq.__file__).with_name("backends") / "redis" / "lua" / "finish.lua"
    assert f"'MAXLEN', '~', {MOST_LETTERS}," in script.read_text()
