"""What is run with the rules as built: each row a world that must hold, or one that shows why a number is what it is."""

from __future__ import annotations

from typing import Any, NamedTuple

from property_tests.model.world import UNLIMITED, Broken, World

HOLDS, SAME = "holds", "equivalent"
"""Expectations; any other is the word with which the violation must begin. SAME: a rule is broken and nothing shows."""


class Row(NamedTuple):
    group: str
    name: str
    world: World
    expect: str
    every: int = 10
    """Each how-manieth state is run to its end (liveness)."""
    quick: bool = False
    """Part of ``test_model.py``."""
    slow: bool = False
    """A mutant that is not: its smallest world takes tens of seconds. All others are."""


def row(
    group: str,
    name: str,
    expect: str = HOLDS,
    *,
    every: int = 10,
    quick: bool = False,
    slow: bool = False,
    broken: str = "",
    **world: Any,
) -> Row:
    """A row; ``broken`` names fields of Broken, ``field`` or ``field=text``, with blanks between."""
    rules: dict[str, Any] = {}
    for word in broken.split():
        field, _, text = word.partition("=")
        rules[field] = text or True
    return Row(group, name, World(broken=Broken(**rules), **world), expect, every, quick, slow)


U = UNLIMITED
T2: dict[str, Any] = {"ttl": 2}
FAIL: dict[str, Any] = {"failover": 1, "ttl": 2}
GOES_ON: dict[str, Any] = {"limits": (U,), "keep": True, "ttl": 2}
RAISE: dict[str, Any] = {"ttl": 2, "to": 3, "commands": 1, "jobs": (0,), "joins": 3}
LOWER: dict[str, Any] = {**RAISE, "ttl": 3, "to": 2}
BELL: dict[str, Any] = {"prompt": True, "bell": 1, "preloaded": 0}
POISON: dict[str, Any] = {"prompt": True, "ttl": 2, "joins": 6}

CORRECT = [
    row("lease", "no faults, TTL 3"),
    row("lease", "no faults, TTL 2, one job", jobs=(0,), quick=True, **T2),
    row("lease", "three workers", workers=(0, 0, 0), joins=3, **T2),
    row("lease", "limit 2, two consumers, three jobs", limits=(2,), consumers=2, jobs=(0, 0, 0), **T2),
    row("lease", "two lanes under one lease", limits=(1, 1), consumers=2, jobs=(0, 0, 1), **T2),
    row("lease", "SIGKILL", crash=1, joins=3, **T2),
    row("lease", "two SIGKILLs, dead letter at 2 crashes", max_crashes=2, crash=2, joins=4, jobs=(0,), **T2),
    row("lease", "lost replies and limbo, release, one job", net=1, release=1, jobs=(0,), **T2),
    row("lease", "lost replies and limbo, two consumers", net=1, consumers=2, limits=(2,), **T2),
    row("lease", "retry with delay", retry=True, **T2),
    row("lease", "leave and SIGKILL, one job", leave=1, crash=1, joins=3, jobs=(0,), **T2),
    row("lease", "leave, one job", leave=1, jobs=(0,), quick=True, **T2),
    row("lease", "leave, two jobs", leave=1, **T2),
    row("lease", "limit moved twice among 0, 1, 2", limit_changes=2, strict=True, **T2),
    row(
        "lease", "limit 2 moved, two consumers", limit_changes=1, limits=(2,), consumers=2, strict=True,
        jobs=(0, 0, 0), **T2,
    ),
    row("forgetting", "restart or failover to a stale replica, one job", jobs=(0,), **FAIL),
    row("forgetting", "the same, two jobs, renewals in time", prompt=True, quick=True, **FAIL),
    row("forgetting", "failover and retry, one job, renewals in time", retry=True, prompt=True, jobs=(0,), **FAIL),
    row("forgetting", "everything lost, quarantine on an absent clock", forget=1, **T2),
    row("forgetting", "members zset deleted, sentinel", forget=1, forgets="members", quick=True, **T2),
    row("forgetting", "XGROUP DESTROY, one job", forget=1, forgets="group", jobs=(0,), **T2),
    row("forgetting", "SIGSTOP, holders past their deadline excused", pause=1),
    row("going on", "unlimited lane, bodies outlive the lease", joins=3, **GOES_ON),
    row("going on", "the same, SIGKILL, one job", joins=3, crash=1, jobs=(0,), **GOES_ON),
    row("going on", "the same, lost join reply, one job and worker", joins=3, net=1, jobs=(0,), workers=(0,), quick=True, **GOES_ON),
    row("going on", "the same, retry, one job", joins=3, retry=True, jobs=(0,), **GOES_ON),
    row("going on", "the same, XGROUP DESTROY, one job", forget=1, forgets="group", jobs=(0,), **GOES_ON),
    row("going on", "the same, failover, one worker", failover=1, workers=(0,), joins=3, jobs=(0,), **GOES_ON),
    row(
        "going on", "an unlimited and a limited lane", joins=3, limits=(U, 1), jobs=(0, 1), consumers=2, keep=True,
        **T2,
    ),
    row("going on", "the same, SIGSTOP, one job", joins=3, pause=1, jobs=(0,), **GOES_ON),
    row("going on", "on_lease_loss=cancel", joins=3, limits=(U,), **T2),
    row("going on", "cancel; lane gets a limit while it runs", limits=(U,), limit_changes=1, limit_values=(1,), quick=True, **T2),
    row(
        "going on", "continue; lane gets a limit: P2's exception", "BODIES", joins=3, limit_changes=1,
        limit_values=(1,), jobs=(0,), quick=True, **GOES_ON,
    ),
    row("hungry", "two workers, limit 2", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), prompt=True, quick=True),
    row(
        "hungry", "the hungry may be killed", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), joins=3, crash=1,
        prompt=True, ttl=2,
    ),
    row(
        "hungry", "the hungry may stall or expire", hungry=1, limits=(2,), consumers=2, jobs=(0, 0, 0), every=5, **T2
    ),
    row(
        "hungry", "three workers, limit 3, one of them idle", hungry=2, limits=(3,), consumers=2, workers=(0, 0, 0),
        jobs=(0, 0, 0, 0), prompt=True, joins=3,
    ),
    row("hungry", "two lanes", hungry=2, limits=(2, 1), consumers=2, jobs=(0, 0, 0, 1), prompt=True, quick=True),
    row("suspects", "poison and an innocent, 2 crashes", max_crashes=2, poison=(0,), limits=(2,), consumers=2, quick=True, **POISON),
    row(
        "suspects", "poison and two innocents, 3 crashes", max_crashes=3, poison=(0,), jobs=(0, 0, 0), limits=(3,),
        consumers=3, **POISON,
    ),
    row(
        "suspects", "poison last, limit below the cohort", max_crashes=2, poison=(2,), jobs=(0, 0, 0), limits=(2,),
        consumers=3, quick=True, **POISON,
    ),
    row(
        "suspects", "two lanes, unlimited and limited", max_crashes=2, poison=(1,), jobs=(0, 1, 0), limits=(U, 1),
        consumers=3, quick=True, **POISON,
    ),
    row("suspects", "leave and release", max_crashes=2, poison=(0,), limits=(2,), consumers=2, leave=1, release=1, **POISON),
    row(
        "suspects", "one SIGKILL more: the exception", "INNOCENT", max_crashes=3, poison=(0,), limits=(2,), consumers=2,
        crash=1, quick=True, **POISON,
    ),
    row("suspects", "with the bell and its poll", max_crashes=2, poison=(0,), limits=(2,), consumers=2, bell=1, poll=True, **POISON),
    row("bell", "limit 1", quick=True, **BELL),
    row("bell", "three workers", workers=(0, 0, 0), joins=3, quick=True, **BELL),
    row("bell", "limit 2, two consumers", limits=(2,), consumers=2, jobs=(0, 0, 0), quick=True, **BELL),
    row("bell", "up to two rings unread", limits=(2,), prompt=True, bell=2, preloaded=0, quick=True),
    row("bell", "leave and release", release=1, leave=1, joins=3, quick=True, **BELL),
    row("bell", "limit moved twice among 0, 1, 2", limit_changes=2, quick=True, **BELL),
    row("bell", "retry", retry=True, quick=True, **BELL),
    row("bell", "two lanes", limits=(1, 1), jobs=(0, 0, 1), quick=True, **BELL),
    row("bell", "two pools", limits=(1, 1), jobs=(0, 1, 1), pools=((0, 1), (1,)), workers=(0, 1), quick=True, **BELL),
    row("bell", "fair share", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), **BELL),
    row("bell", "unlimited lane, shares of the backlog", hungry=2, limits=(U,), consumers=2, jobs=(0, 0, 0), **BELL),
    row("bell", "hint, leave, release", hint=True, leave=1, release=1, quick=True, **BELL),
    row("bell", "slow workers lose their lease", preloaded=0, bell=1, ttl=2),
    row("bell", "lost replies", net=1, release=1, **BELL),
    row("bell", "a leaving worker loses its connection: the exception", "RING", net=1, leave=1, jobs=(0,), quick=True, **BELL),
    row("bell", "XGROUP DESTROY, unlimited lane", bell=1, prompt=True, forget=1, forgets="group", limits=(U,), **T2),
    row("bell", "failover, unlimited lane", bell=1, prompt=True, limits=(U,), preloaded=1, **FAIL),
    row("bell", "failover, limited lane", bell=1, prompt=True, **FAIL),
    row("bell", "SIGKILL and lost replies: the poll", crash=1, net=1, joins=3, poll=True, ttl=2, **BELL),
    row("hint", "SIGKILL", hint=True, crash=1, joins=3, **T2),
    row("hint", "XGROUP DESTROY, one job", hint=True, forget=1, forgets="group", jobs=(0,), **T2),
    row("hint", "members zset deleted", hint=True, forget=1, forgets="members", **T2),
    row("hint", "two lanes, limits moved", hint=True, limits=(1, 1), jobs=(0, 1), limit_changes=1, **T2),
    row("ttl", "raised", **RAISE),
    row("ttl", "lowered", **LOWER),
    row("ttl", "one worker, raised and taken back, everything lost", quick=True, forget=1, **{**RAISE, "workers": (0,), "joins": 2, "commands": 2}),
    row("ttl", "raise under way, everything lost", forget=1, under_way=True, **{**RAISE, "commands": 0, "joins": 2}),
    row("ttl", "raise under way, one worker was left behind, everything lost", left_behind=True, forget=1, under_way=True, **{**RAISE, "commands": 0, "joins": 2}),
    row("ttl", "the same, and nobody holds it up", left_behind=True, forget=1, under_way=True, held_up=False, **{**RAISE, "commands": 0, "joins": 2}),
    row("ttl", "a raise beyond the silence that is believed, everything lost: the exception", "BODIES", every=9999, left_behind=True, forget=1, under_way=True, believed=2, **{**RAISE, "commands": 0, "joins": 2}),
    row("ttl", "lowering under way, everything lost", forget=1, under_way=True, **{**LOWER, "commands": 0, "joins": 2}),
    row("ttl", "raised before, failover to a replica from then", failover=1, replica_ttl=2, **{**LOWER, "commands": 0}),
    row("ttl", "the same, one worker was left behind: the exception", "BODIES", left_behind=True, failover=1, replica_ttl=2, quick=True, **{**LOWER, "commands": 0}),
]  # fmt: skip

FULL = [
    row("forgetting", "restart or failover to a stale replica", **FAIL),
    row("forgetting", "failover and retry, renewals in time", retry=True, prompt=True, **FAIL),
    row("forgetting", "failover and retry, one job", retry=True, jobs=(0,), **FAIL),
    row("forgetting", "failover and clock step, margin 2, one job", failover=1, jump=1, margin=2, jobs=(0,)),
    row("lease", "SIGKILL, TTL 3", crash=1, joins=3),
    row("lease", "lost replies, TTL 3", net=1),
    row("lease", "lost replies and limbo, release", net=1, release=1, **T2),
    row("lease", "leave and SIGKILL", leave=1, crash=1, joins=3, **T2),
    row("lease", "two lost replies, release, one job", net=2, release=1, jobs=(0,), **T2),
    row("lease", "SIGKILL and lost reply", crash=1, net=1, joins=3, **T2),
    row("lease", "SIGKILL and retry", crash=1, retry=True, joins=3, **T2),
    row("forgetting", "failover, submits may be in the lost tail", preloaded=1, **FAIL),
    row("forgetting", "failover and lost reply, one job", net=1, jobs=(0,), **FAIL),
    row("forgetting", "failover and SIGKILL, one job", crash=1, joins=3, jobs=(0,), **FAIL),
    row("forgetting", "two failovers, one job", failover=2, jobs=(0,), **T2),
    row("forgetting", "XGROUP DESTROY", forget=1, forgets="group"),
    row("forgetting", "XGROUP DESTROY and lost reply, one job", forget=1, forgets="group", net=1, jobs=(0,)),
    row("forgetting", "failover and SIGSTOP, one job", pause=1, jobs=(0,), **FAIL),
    row("forgetting", "SIGSTOP and lost reply", pause=1, net=1, **T2),
    row("going on", "lost join reply, one job", joins=3, net=1, jobs=(0,), **GOES_ON),
    row("going on", "lost replies, limbo, release, one job", joins=3, net=1, release=1, jobs=(0,), **GOES_ON),
    row("going on", "failover, one job", joins=3, jobs=(0,), failover=1, **GOES_ON),
    row("going on", "XGROUP DESTROY, three joins, one job", joins=3, forget=1, forgets="group", jobs=(0,), **GOES_ON),
    row("hungry", "SIGKILL, and all may stall", hungry=1, limits=(2,), consumers=2, jobs=(0, 0, 0), joins=3, crash=1, **T2),
    row("hungry", "limit moved", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), prompt=True, limit_changes=2),
    row("suspects", "two poisons among four", max_crashes=3, poison=(0, 2), jobs=(0, 0, 0, 0), limits=(4,), consumers=4, **POISON),
    row("bell", "failover and slow workers, one job", bell=1, jobs=(0,), **FAIL),
    row("going on", "failover, ids given out again", workers=(0,), preloaded=0, joins=3, failover=1, **GOES_ON),
    row("bell", "bodies outlive the lease", limits=(1, U), jobs=(0, 1), keep=True, preloaded=0, joins=3, bell=1, **T2),
    row("bell", "limit 4, two consumers, four jobs", limits=(4,), consumers=2, jobs=(0, 0, 0, 0), **BELL),
    row("bell", "everything on", hungry=1, hint=True, leave=1, retry=True, limits=(2,), consumers=2, **BELL),
    row("ttl", "raised, SIGKILL", crash=1, **RAISE),
    row("ttl", "lowered, SIGKILL", crash=1, **LOWER),
    row("ttl", "raised, lost replies", net=1, **RAISE),
    row("ttl", "lowered, lost replies", net=1, **LOWER),
    row("ttl", "raised, everything lost", forget=1, **RAISE),
    row("ttl", "lowered, everything lost", forget=1, **LOWER),
    row("ttl", "raised, failover to a stale replica", failover=1, **RAISE),
    row("ttl", "lowered, failover to a stale replica", failover=1, **LOWER),
]  # fmt: skip

SWEEP = [
    row("times", "margin 0", "BODIES", margin=0),
    row("times", "margin 1, unwind 1", "BODIES", margin=1, unwind=1),
    row("times", "margin 2, unwind 1", margin=2, unwind=1),
    row("times", "margin 1, clock step G=1", "BODIES", jump=1),
    row("times", "margin 2, clock step G=1", jump=1, margin=2),
    row("times", "TTL 4, margin 2, unwind 1, G=1", "BODIES", ttl=4, margin=2, unwind=1, jump=1, jobs=(0,)),
    row("times", "TTL 4, margin 3, unwind 1, G=1", ttl=4, margin=3, unwind=1, jump=1, jobs=(0,)),
    row("times", "TTL 3, margin 2, quarantine 1", "BODIES", failover=1, margin=2, quarantine=1, jobs=(0,)),
    row("times", "TTL 3, margin 2, quarantine 2", failover=1, margin=2, quarantine=2, jobs=(0,)),
    row("times", "TTL 3, margin 1, quarantine 2", "BODIES", failover=1, quarantine=2, jobs=(0,)),
]
"""margin >= G + unwind + 1 tick (the watchdog's reaction); quarantine >= TTL - margin + unwind + G + 1 tick."""
