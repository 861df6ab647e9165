"""What two looks at the app have in common, and what not: a stepped clock, a changed limit, lanes that nobody serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from flowq._fleet import LaneSurvey, Survey

SLACK = 1.0
"""Seconds by which the server's clock may leave ours between two looks without having stepped."""
UNSERVED = 60.0
"""Seconds that a job waits for somebody who serves its lane before that is worth telling: deploys have an order."""
NEARLY_FULL, FULL = 90.0, 100.0
"""Percent of ``maxmemory``."""


@attrs.frozen
class Reading:
    """The server's clock minus ours, in seconds: it lies between these two, since an answer takes time."""

    least: float
    most: float

    @classmethod
    def of(cls, server: float, sent_at: float, answered_at: float) -> Reading:
        return cls(server - answered_at, server - sent_at)


def step(before: Reading, after: Reading) -> float:
    """Seconds by which the server's clock has stepped; 0: no more than the two readings leave open."""
    ahead, behind = after.least - before.most, before.least - after.most
    if max(ahead, behind) <= SLACK:
        return 0.0
    return (after.least + after.most - before.least - before.most) / 2


LimitReason = Literal["paused", "resumed", "set", "reset", "declared"]
"""By ``flowq pause``, ``resume``, ``limits set`` or ``limits reset``, or by the code of the live workers."""


@attrs.frozen
class LimitChange:
    """Another limit is in force than at the look before; None: none."""

    lane: str
    before: int | None
    after: int | None
    why: LimitReason


def limit_changes(before: Survey, after: Survey) -> Iterator[LimitChange]:
    """Every lane whose limit in force changed, by name."""
    for lane in sorted(before.limits.keys() | after.limits.keys()):
        was, now = before.limits.get(lane), after.limits.get(lane)
        if was != now:
            yield LimitChange(lane, was, now, _why(lane, before, after))


def _why(lane: str, before: Survey, after: Survey) -> LimitReason:
    if (lane in before.paused) != (lane in after.paused):
        return "paused" if lane in after.paused else "resumed"
    if before.override.get(lane) != after.override.get(lane):
        return "set" if lane in after.override else "reset"
    return "declared"


def unserved(survey: Survey) -> Iterator[LaneSurvey]:
    """Lanes whose jobs have waited for long and that nobody serves."""
    return (
        lane
        for lane in survey.lanes
        if not lane.served and lane.oldest is not None and lane.oldest >= UNSERVED
    )


def disagreements(survey: Survey) -> Iterator[LaneSurvey]:
    """Lanes for which live workers declare different limits."""
    return (lane for lane in survey.lanes if len(lane.declared) > 1)
