"""How much work to ask for.

A limited lane is asked for free consumers only: what waits in a worker holds a token that somebody else could use. Of an
unlimited lane a worker may take ahead what will start within ``HORIZON``: it hides the round trip between two short bodies.
More would sit behind long bodies while another worker is idle, and would die with this worker as a crash (CORRECTIONS 1.11).

What will start is told by when the running bodies should end, each by its lane's average: N bodies of 50 ms that began together
end together, so nothing starts for 30 ms and then everything does.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

HORIZON = 0.020
"""Seconds: what starts within these may be taken ahead."""
STALE = 0.030
"""Seconds after which what was taken ahead and could not start goes back; longer than the horizon, so that a guess that is a
little off does not carry jobs to and fro."""
REST = 1.0
"""Seconds for which nothing of a lane is taken ahead after a guess that was wrong."""
MOST_AHEAD = 400
"""Deliveries ahead in all, or one for each consumer: about what goes with one settle (500)."""
SPREAD = 8
"""Lanes that share what may be taken ahead. Of more lanes, one claim serves so many (those with work, from where its turn begins), and the next one
others: a handful of each of two hundred would cost a read for each lane and claim."""
SMOOTHING = 0.3
"""Weight of the newest sample in the running average."""
OVERDUE = 2.0
"""Averages: a body older than this is one of the long ones, and nobody knows when it ends."""
FADED = 0.5
"""Seconds after its last body at which a lane's average is not used any more."""


@attrs.define
class Pace:
    """How long a lane's bodies take in this worker: a running average, fed every few milliseconds."""

    seconds: float = 0.0
    """Of one body, wall time."""
    measured_at: float = -1.0
    """When a body was measured last; negative: never."""
    rests_until: float = 0.0

    def add(self, ended: int, spent: float, now: float) -> None:
        """Learn that ``ended`` bodies took ``spent`` seconds in all."""
        seconds = spent / ended
        if self.measured_at < 0:
            self.seconds = seconds
        else:
            self.seconds += SMOOTHING * (seconds - self.seconds)
        self.measured_at = now

    def was_wrong(self, now: float) -> None:
        """What was taken ahead could not start: measure anew, and not at once."""
        self.measured_at = -1.0
        self.rests_until = now + REST

    def is_usable(self, now: float) -> bool:
        """Is the average of now, and has it not been wrong lately?"""
        return (
            self.measured_at >= 0
            and now >= self.rests_until
            and now - self.measured_at <= max(FADED, 2 * self.seconds)
        )


@attrs.frozen
class Load:
    """What a worker has at hand when it thinks about claiming."""

    consumers: int
    running: int
    """Bodies, of whatever lane."""
    waiting: int
    """Deliveries that have not started."""

    @property
    def room(self) -> int:
        """Consumers that are free now."""
        return max(0, self.consumers - self.running - self.waiting)


@attrs.frozen
class Outlook:
    """What the running bodies promise for the horizon."""

    ending: int = 0
    """Bodies that should end within it."""
    slack: float = 0.0
    """Consumer-seconds of it that will be free after these ends."""


def look_ahead(bodies: Iterable[tuple[float, float]]) -> Outlook:
    """Sum up the running bodies.

    Args:
        bodies: (age, average of its lane) of each, seconds; of those only whose lane's average is usable.
    """
    ending, slack = 0, 0.0
    for age, average in bodies:
        left = average - age
        if left < HORIZON and age <= OVERDUE * average:
            ending += 1
            slack += HORIZON - max(0.0, left)
    return Outlook(ending, slack)


def share_ahead(averages: dict[str, float], outlook: Outlook, load: Load) -> dict[str, int]:
    """How many of each lane may be taken beyond the room; lanes that get none are left out.

    Consumers that are free now are counted as one: bodies that compute run one after the other, whatever the number of consumers,
    and bodies that wait will be seen running. Several lanes share what starts; what waits already is taken off. Of more than ``SPREAD``
    lanes each is named what it would get among so many, and a claim fills so many shares.

    Args:
        averages: seconds of one body, of each unlimited lane whose pace is usable.
    """
    queued = max(0, load.running + load.waiting - load.consumers)
    shares: dict[str, int] = {}
    for name, seconds in averages.items():
        starts = most = max(MOST_AHEAD, load.consumers)
        if seconds > 0:
            # bounded before it is made an int: under a clock that stands still the average decays to next to nothing
            starts = int(min(most, outlook.ending + (outlook.slack + HORIZON) / seconds))
        ahead = starts // min(len(averages), SPREAD) - queued
        if ahead > 0:
            shares[name] = ahead
    return shares


def is_worth_a_claim(load: Load, extra: int) -> bool:
    """A free consumer is worth a claim at once; more work ahead only by the handful, unless nothing is left to start."""
    if load.room:
        return True
    return extra >= (max(1, load.consumers // 20) if load.waiting else 1)
