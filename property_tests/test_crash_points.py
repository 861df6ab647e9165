"""Crash points: in each life of a job, the link of its worker is cut before and after its k-th request, for every k.

Kills are played at every request; broken connections, and workers that are away for longer than their lease, at every fourth one,
unless ``FLOWQ_EXAMPLES`` is 1000 or more.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

from .simulation.history import CallFailed, Started
from .simulation.lives import BLOWS, LIVES, TTL, VICTIM, crash_points, plan_of, recoveries
from .simulation.run import judge, simulate

EVERY = 4
IN_LINE = {"adopt": 5.0, "settle": 0.5}
"""Seconds that a job may have to wait besides: for a limit, for its turn among suspects, for a worker that is there at all."""


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("life", LIVES)
def test_no_cut_breaks_a_promise(life: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost, doubled, or over its limit, wherever the link is cut; a killed worker's jobs start again within TTL + 1 s."""
    longest, points = 0.0, 0
    undisturbed = simulate(plan_of(life)).history.events
    assert any(isinstance(event, Started) and event.worker == VICTIM for event in undisturbed), (
        "it does nothing there"
    )
    for number, point in enumerate(crash_points(life)):
        if (
            not point.blow.startswith("crash")
            and number // len(BLOWS) % EVERY
            and settings().max_examples < 1000
        ):
            continue
        run = simulate(point.plan)
        points += 1
        violations = judge(run)
        assert not violations, f"{point}: {violations[0]}\nto replay it:\n  {point.plan.command} --history"
        played = [event for event in run.history.events if isinstance(event, CallFailed)]
        assert [(one.call, one.number) for one in played] == [(point.call, point.number)], point
        recovered = max(recoveries(run), default=0.0)
        allowed = TTL + 1.0 + IN_LINE.get(life, 0.0)
        assert recovered <= allowed, (
            f"{point}: {recovered:.2f} s\nto replay it:\n  {point.plan.command} --history"
        )
        longest = max(longest, recovered)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncrash points of {life}: {points} cuts, slowest recovery {longest:.2f} s at TTL {TTL:g} s\n"
        )
    assert points > 10
