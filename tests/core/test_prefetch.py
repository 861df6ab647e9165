"""How much a worker asks for."""

from __future__ import annotations

import pytest

from flowq._core.prefetch import (
    HORIZON,
    MOST_AHEAD,
    REST,
    Load,
    Outlook,
    Pace,
    is_worth_a_claim,
    look_ahead,
    share_ahead,
)


def test_room_is_what_is_free() -> None:
    """Running bodies and waiting deliveries take a consumer each; there is no negative room."""
    assert Load(10, 3, 2).room == 5
    assert Load(10, 10, 50).room == 0


def test_nothing_is_taken_ahead_of_a_lane_that_was_not_measured() -> None:
    """The first jobs of a lane may be ten-second ones."""
    assert not Pace().is_usable(0.0)
    pace = Pace()
    pace.add(10, 0.05, now=1.0)
    assert pace.is_usable(1.1)
    assert pace.seconds == pytest.approx(0.005)
    assert not pace.is_usable(9.0)


def test_after_a_wrong_guess_it_rests() -> None:
    """Otherwise jobs would be carried to and fro."""
    pace = Pace()
    pace.add(1, 0.005, now=1.0)
    pace.was_wrong(2.0)
    pace.add(1, 0.005, now=2.1)
    assert not pace.is_usable(2.2)
    pace.add(1, 0.005, now=2.0 + REST)
    assert pace.is_usable(2.0 + REST)


def test_bodies_that_began_together_end_together() -> None:
    """N bodies of 50 ms promise nothing for the first 30 ms, and everything after."""
    assert look_ahead([(0.010, 0.050)] * 100) == Outlook(0, 0.0)
    later = look_ahead([(0.040, 0.050)] * 100)
    assert later.ending == 100
    assert later.slack == pytest.approx(100 * 0.010)


def test_a_body_that_is_long_overdue_promises_nothing() -> None:
    """It is one of the long ones: ten-second bodies in a lane of milliseconds keep no jobs waiting behind them."""
    assert look_ahead([(5.0, 0.010)] * 10).ending == 0


def test_short_bodies_are_taken_ahead_by_what_starts_within_the_horizon() -> None:
    """100 consumers in bodies of 5 ms start about 400 in 20 ms; bodies that compute start one after the other."""
    outlook = look_ahead([(0.0025, 0.005)] * 100)
    assert share_ahead({"a": 0.005}, outlook, Load(100, 100, 0)) == {
        "a": min(MOST_AHEAD, 100 + int((100 * 0.0175 + HORIZON) / 0.005))
    }
    assert share_ahead({"a": 0.005}, Outlook(), Load(100, 0, 0)) == {"a": 4}
    assert share_ahead({"a": 0.0}, Outlook(), Load(100, 0, 0)) == {"a": MOST_AHEAD}
    assert share_ahead({"a": 1.0}, Outlook(), Load(100, 0, 0)) == {}


def test_lanes_share_and_what_waits_is_taken_off() -> None:
    """Together they get no more than one alone would."""
    alone = share_ahead({"a": 0.001}, Outlook(), Load(10, 0, 0))
    shared = share_ahead({"a": 0.001, "b": 0.001}, Outlook(), Load(10, 0, 0))
    assert sum(shared.values()) <= alone["a"] == 20
    assert share_ahead({"a": 0.001}, Outlook(), Load(10, 10, 15)) == {"a": 5}
    assert share_ahead({"a": 0.001}, Outlook(), Load(10, 10, 20)) == {}


def test_a_free_consumer_is_worth_a_claim_and_one_more_ahead_is_not() -> None:
    """Ahead it goes by the handful, unless nothing is left to start."""
    assert is_worth_a_claim(Load(100, 99, 0), 0)
    assert not is_worth_a_claim(Load(100, 100, 10), 4)
    assert is_worth_a_claim(Load(100, 100, 10), 5)
    assert is_worth_a_claim(Load(100, 100, 0), 1)
