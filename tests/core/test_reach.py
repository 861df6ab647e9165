"""How many unstarted jobs a worker holds."""

from __future__ import annotations

import pytest

from flowq._core.prefetch import HORIZON, MOST_AHEAD, Load
from flowq._core.reach import FIRST, Reach


def test_it_doubles_while_all_that_was_granted_has_started() -> None:
    """Bodies that wait leave the loop free: within a few looks any number may be asked for."""
    reach = Reach()

    asked = []
    for running in (4, 12, 28, 60):
        asked.append(reach.part_of(1000, 0))
        reach.add(0, 0.002, Load(1000, running, 0))

    assert asked == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]


def test_it_is_what_starts_within_the_horizon_when_the_loop_is_the_bottleneck() -> None:
    """Something waits although consumers are free, twice in a row: then it is the loop that is waited for."""
    reach = Reach(jobs=MOST_AHEAD)

    reach.add(1, 0.002, Load(32, 0, 31))
    assert reach.jobs == MOST_AHEAD
    reach.add(2, 0.010, Load(32, 0, 29))

    assert reach.jobs == int(HORIZON * 2 / 0.010)


@pytest.mark.parametrize("waiting", [0, 1, 31])
def test_who_has_room_asks_for_one_at_least(waiting: int) -> None:
    """A free consumer without a claim would hear of nothing."""
    reach = Reach(jobs=1)

    assert reach.part_of(1, waiting) == 1
    assert reach.part_of(0, waiting) == 0


def test_waiting_behind_busy_consumers_is_no_sign_of_the_loop() -> None:
    """What was taken ahead waits for consumers, which is ``prefetch``'s matter."""
    reach = Reach(jobs=64)

    for _ in range(5):
        reach.add(10, 0.010, Load(10, 10, 20))

    assert reach.jobs == 64


def test_it_recovers_from_a_stall() -> None:
    """A pause of the process that looks like computing costs a few looks, no more."""
    reach = Reach(jobs=MOST_AHEAD)
    reach.add(0, 0.002, Load(32, 0, 31))
    reach.add(1, 0.500, Load(32, 1, 30))
    assert reach.jobs == 1

    for _ in range(5):
        reach.add(0, 0.002, Load(32, 1, 0))

    assert reach.jobs == 32


def test_a_thousand_free_consumers_are_no_reason_to_ask_for_less() -> None:
    """Where bodies start as fast as they are granted, all consumers can be filled by one claim."""
    reach = Reach()

    for _ in range(10):
        reach.add(0, 0.002, Load(1000, 0, 0))

    assert reach.part_of(1000, 0) == 1000
