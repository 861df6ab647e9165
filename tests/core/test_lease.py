"""The keeper's machine, event by event. TTL 10: deadline 6.5 s after the send, renewals every 1.25 s, kill 1.3 s after it."""

from __future__ import annotations

import math

import pytest

from flowq._core.lease import RENEW, REPORT, Lease, Step
from flowq._model import LeaseTimes

TIMES = LeaseTimes.of(10.0)


def lease(sent_at: float = 100.0) -> Lease:
    return Lease.begin(TIMES, sent_at)


def step(of: Lease, now: float, *, pulse: float | None = None, bodies: int = 0) -> Step:
    return of.step(now, now if pulse is None else pulse, bodies, max_stall=60.0)


def test_the_deadline_is_counted_from_the_send() -> None:
    """A slow answer makes the trusted time shorter, never longer; a claim is not an event of this machine."""
    held = lease()
    assert held.deadline == 106.5
    held.renewed(sent_at=101.0, now=104.0)
    assert held.deadline == 107.5
    held.renewed(sent_at=100.5, now=104.5)
    assert held.deadline == 107.5


def test_an_answer_after_the_deadline_revives_nothing() -> None:
    """What was sent in time and answered too late is too late."""
    held = lease()
    held.renewed(sent_at=106.0, now=106.5)
    held.confirmed(sent_at=106.0, now=106.6)
    assert held.deadline == 106.5


def test_it_renews_when_due_and_rests_between() -> None:
    """Every TTL/8, counted from the send."""
    held = lease()
    assert step(held, 100.5) == Step("rest", 101.25)
    assert step(held, 101.25) == RENEW
    held.renewed(101.25, 101.3)
    assert step(held, 101.3) == Step("rest", 102.5)


def test_failures_are_repeated_soon_and_cancel_nothing() -> None:
    """0.25 s, 0.5 s, … up to the usual period; the deadline stays where it was."""
    held = lease()
    waits = []
    now = 101.25
    for _ in range(5):
        held.failed(now)
        waits.append(held.due - now)
        now = held.due
    assert waits == [0.25, 0.5, 1.0, 1.25, 1.25]
    assert held.deadline == 106.5


def test_it_warns_once_when_half_of_the_trusted_time_is_gone() -> None:
    """And again after it had recovered."""
    held = lease()
    assert [held.failed(now) for now in (101.25, 103.0, 103.3, 104.0)] == [False, False, True, False]
    held.renewed(104.5, 104.6)
    assert not held.failed(105.0)
    assert held.failed(110.0)


def test_a_server_that_forgot_extends_nothing() -> None:
    """The loop confirms; until then the old deadline holds."""
    held = lease()
    held.forgot(101.3)
    assert held.deadline == 106.5
    assert step(held, 101.4) == Step("rest", 102.55)
    held.confirmed(sent_at=101.5, now=101.6)
    assert held.deadline == 108.0


def test_a_silent_loop_is_not_renewed_for() -> None:
    """Beyond ``max_stall`` nobody could stop its bodies: the lease runs out, looked at twice a second."""
    held = lease(100.0)
    assert held.step(103.0, 50.0, 0, max_stall=60.0) == RENEW
    assert held.step(103.0, 42.9, 0, max_stall=60.0) == Step("rest", 103.5)
    assert held.step(106.4, 42.9, 0, max_stall=60.0) == Step("rest", 106.5)


@pytest.mark.parametrize("ending", ["deadline", "lost"])
def test_limited_bodies_that_stay_are_reported_once_at_the_kill_time(ending: str) -> None:
    """Without bodies nothing is to be done; with bodies it waits until the supervisor would kill, and reports once."""
    held = lease()
    now = held.deadline
    if ending == "lost":
        now = 102.0
        held.lost(now)
    assert held.kill_at == now + 1.3
    assert step(held, now) == Step("rest", math.inf)
    assert step(held, now, bodies=2) == Step("rest", held.kill_at)
    assert step(held, held.kill_at, bodies=2) == REPORT
    assert step(held, held.kill_at + 1, bodies=2) == Step("rest", math.inf)


def test_lost_is_final() -> None:
    """No later answer, good as it may be, makes a retired membership live again."""
    held = lease()
    held.lost(102.0)
    held.renewed(102.5, 102.6)
    held.confirmed(102.5, 102.6)
    assert (held.deadline, held.over) == (102.0, True)


def test_a_shorter_ttl_cuts_the_lease_before_it_is_acknowledged() -> None:
    """What a renewal says is heeded holds for the lease that runs, and for the renewals to come."""
    held = lease()
    assert held.about_to_tell(100.1) == ""
    held.heed("10000 4000 n", LeaseTimes.of(4.0), now=101.0)
    assert held.deadline == 101.0 + 2.6
    assert held.due == 101.25
    assert held.about_to_tell(101.25) == "10000 4000 n"
    held.renewed(sent_at=101.25, now=101.3)
    assert held.deadline == 101.25 + 2.6
    assert held.due == 101.75


def test_a_longer_ttl_is_trusted_from_the_next_renewal_on() -> None:
    """It was promised to none that was sent before."""
    held = lease()
    held.heed("", LeaseTimes.of(40.0), now=101.0)
    assert held.deadline == 106.5
    held.renewed(sent_at=101.25, now=101.3)
    assert held.deadline == 101.25 + 26.0


def test_no_race_of_the_two_threads_outlives_an_acknowledgement() -> None:
    """The keeper may have written a deadline by the old times while the loop changed them: it is cut before the next renewal leaves."""
    held = lease()
    held.heed("10000 4000 n", LeaseTimes.of(4.0), now=101.0)
    held.deadline = 107.5  # what `renewed` had worked out just before
    assert held.about_to_tell(101.25) == "10000 4000 n"
    assert held.deadline == 101.25 + 2.6
