"""The lease's inequalities for every TTL, and the keeper's machine under every order of events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowq._core.lease import KILL_AFTER, Lease
from flowq._model import LeaseTimes

UNWIND = 0.13
"""Of the TTL: what bodies have to leave, before the supervisor kills."""
DRIFT = 1e-3
ttls = st.floats(1, 3600)


@given(ttls)
def test_the_inequalities_of_the_lease_hold(ttl: float) -> None:
    """LEASE.md §2: the margin covers a step of the server's clock, drift, unwinding and the kill; renewals come at least every G."""
    times = LeaseTimes.of(ttl)
    reaction_and_kill = times.margin - times.step - DRIFT * ttl - KILL_AFTER * ttl
    assert KILL_AFTER == UNWIND
    assert reaction_and_kill > 0
    assert reaction_and_kill >= 0.05 * ttl - 1e-9
    assert times.renew_every <= 0.75 * times.step + 1e-9
    assert times.renew_every <= (times.ttl - times.margin) / 4
    assert times.ttl >= (times.ttl - times.margin) + KILL_AFTER * ttl + times.step


@given(ttls, st.floats(0, 1e9))
def test_a_lease_ends_before_the_server_may_think_so(ttl: float, sent_at: float) -> None:
    """Even if the server saw the renewal at the moment it was sent, and its clock then made one whole step: kill time first."""
    times = LeaseTimes.of(ttl)
    lease = Lease.begin(times, sent_at)
    server_expiry = sent_at + times.ttl - times.step
    assert lease.deadline < lease.kill_at < server_expiry


class KeeperMachine(RuleBasedStateMachine):
    """Events in any order, with a clock that only goes forward, against what must always hold."""

    @initialize(ttl=st.sampled_from([2.0, 10.0, 60.0]), sent=st.floats(0, 1000))
    def begin(self, ttl: float, sent: float) -> None:
        self.times = LeaseTimes.of(ttl)
        self.now = sent
        self.lease = Lease.begin(self.times, sent)
        self.best_sent = sent
        self.sent: list[float] = []
        self.pulse = sent
        self.over = False
        self.reports = 0

    @rule(fraction=st.floats(0, 0.4))
    def time_passes(self, fraction: float) -> None:
        self.now += fraction * self.times.ttl

    @rule()
    def loop_beats(self) -> None:
        self.pulse = self.now

    @rule(bodies=st.integers(0, 3), max_stall=st.sampled_from([0.5, 60.0]))
    def step(self, bodies: int, max_stall: float) -> None:
        step = self.lease.step(self.now, self.pulse, bodies, max_stall)
        if step.do == "renew":
            assert not self.over
            assert self.now < self.lease.deadline
            assert self.now - self.pulse <= max_stall
            self.sent.append(self.now)
        elif step.do == "report":
            self.reports += 1
            assert bodies
            assert self.now >= self.lease.kill_at
        else:
            assert step.until > self.now or math.isclose(step.until, self.now)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        sent = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        if not self.over and self.now < self.lease.deadline:
            self.best_sent = max(self.best_sent, sent)
        self.lease.renewed(sent, self.now)

    @precondition(lambda self: self.sent)
    @rule()
    def unanswered(self) -> None:
        self.sent.pop()
        self.lease.failed(self.now)
        assert self.lease.due > self.now

    @rule()
    def server_forgot(self) -> None:
        before = self.lease.deadline
        self.lease.forgot(self.now)
        assert self.lease.deadline == before

    @rule()
    def server_says_lost(self) -> None:
        self.lease.lost(self.now)
        self.over = True

    @invariant()
    def the_deadline_is_the_last_good_sends(self) -> None:
        trusted = self.best_sent + self.times.ttl - self.times.margin
        if self.over:
            assert self.lease.deadline <= trusted
        else:
            assert self.lease.deadline == pytest.approx(trusted)

    @invariant()
    def it_reports_once(self) -> None:
        assert self.reports <= 1


TestKeeper = KeeperMachine.TestCase
