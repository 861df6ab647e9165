"""Looks at the clock for everybody: timeouts, the lease's deadline, jobs that wait too long for a consumer, the loop's pulse.

One task instead of a timer a job. It re-reads what the keeper's thread wrote, so a loop that was blocked does not cancel bodies
for a deadline that has moved meanwhile (a scope's own deadline would: expired deadlines come before posted calls).
"""

from __future__ import annotations

import logging
import math

from flowq._core.deadlines import earliest, expired
from flowq._core.prefetch import STALE
from flowq._runtime.floor import NO_LEASE, Floor
from flowq._runtime.keeper import Keeper
from flowq._runtime.member import Member

PULSE = 0.5
"""Seconds between two beats; so a suspend, in which timers of the loop stand still, is noticed that soon after it."""

SHORTEST = 0.0005
"""Seconds that it lets others run in between, whatever is due."""


async def watch(floor: Floor, member: Member, keeper: Keeper) -> None:
    """Look until cancelled."""
    while True:
        now = floor.loop.now()
        keeper.pulse = now
        look(floor, member, now)
        floor.watch_at = next_look(floor, now)
        await floor.watch.wait(max(SHORTEST, floor.watch_at - floor.loop.now()))


def look(floor: Floor, member: Member, now: float) -> None:
    """Do what is due now."""
    if floor.lease is not NO_LEASE and now >= floor.lease.deadline:
        member.lapse("no renewal was answered in time")
    for consumer in expired(floor.consumers, now):
        if consumer.reason is None:
            consumer.cancel("timeout")
        if consumer.lane is not None and consumer.lane.sync and not consumer.overdue:
            consumer.overdue = True
            floor.events.say(
                logging.WARNING, "body.overdue", "task %s is out of time, but a thread cannot be cancelled: its token is taken until "
                "it returns", consumer.lane.task_name, task=consumer.lane.task_name, limit=consumer.lane.timeout,
            )  # fmt: skip
    if floor.ready and floor.running >= floor.concurrency:
        floor.release_stale(now)


def next_look(floor: Floor, now: float) -> float:
    """When something may be due again."""
    pending = (consumer for consumer in floor.consumers if consumer.reason is None)
    stale = floor.ready[0].claimed_at + STALE if floor.ready else math.inf
    return min(
        now + PULSE,
        earliest(pending),
        floor.lease.deadline if floor.lease is not NO_LEASE else math.inf,
        max(stale, now + 0.001),
    )
