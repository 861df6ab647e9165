"""Plans of faults: drawn from the seed alone, and fit to be judged."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.stress.plan import (
    CALM,
    COSTS_A_LEASE,
    LAST,
    NEEDS_CALM,
    ON_SERVER,
    ON_WORKERS,
    QUIET_END,
    Fault,
    draw,
)

TTL = 2.0


def plan(seed: int, seconds: float = 300.0, *, clock: bool = True) -> list[Fault]:
    return draw(seed, seconds=seconds, every=2.0, ttl=TTL, clock=clock)


def test_a_seed_is_a_plan() -> None:
    """The same seed draws the same faults, another one others."""
    assert plan(1) == plan(1) != plan(2)


@pytest.mark.parametrize("seed", range(30))
def test_servers_are_killed_far_apart(seed: int) -> None:
    """At least five leases, else limited types could not recover in between."""
    at = [fault.at for fault in plan(seed) if fault.kind == "server"]
    assert len(at) > 10
    assert all(later - earlier >= 5 * TTL for earlier, later in pairwise(at))


@pytest.mark.parametrize("seed", range(30))
def test_while_a_loop_is_blocked_no_lease_is_taken(seed: int) -> None:
    """A body that holds its loop cannot be cancelled: that the limit would not hold then is documented, and no finding."""
    faults = plan(seed)
    for hog in (fault for fault in faults if fault.kind in NEEDS_CALM):
        beside = [
            f for f in faults if f.kind in {"server", *COSTS_A_LEASE} and hog.at <= f.at < hog.at + CALM * TTL
        ]
        assert not beside


def test_a_long_plan_has_every_kind() -> None:
    """And one without a clock shim no clock steps."""
    kinds = {*ON_WORKERS, *ON_SERVER, *NEEDS_CALM, "server"}
    assert {fault.kind for fault in plan(5)} == kinds
    assert {fault.kind for fault in plan(5, clock=False)} == {k for k in kinds if not k.startswith("clock")}


@pytest.mark.parametrize("seed", range(30))
def test_a_short_plan_has_what_any_run_must_have(seed: int) -> None:
    """Kills at each moment, a stop past the lease, SIGTERM, a settle that comes late, and a restart of the server, in half a minute."""
    kinds = [fault.kind for fault in plan(seed, 30)]
    assert {
        "kill",
        "kill before settle",
        "kill before start",
        "stop past the lease",
        "term twice",
        "late settle",
        "lose submit reply",
        "server",
    } <= set(kinds)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_mends_what_the_last_faults_did(seed: int) -> None:
    """They lose grants of workers that live on: a restart or a storm soon before or after would have those reconnect once more."""
    faults = plan(seed, 40)
    assert tuple(fault.kind for fault in faults[-len(LAST) :]) == LAST
    late = [f for f in faults if f.kind in {"server", *ON_SERVER} and f.at > faults[-1].at - QUIET_END]
    assert not late
