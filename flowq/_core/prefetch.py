"""How much work to ask for.

A limited lane is asked for free consumers only: what waits in a worker holds a token that somebody else could use. Of an
unlimited lane a worker may take ahead what will start within ``HORIZON``: it hides the round trip between two short bodies.
More would sit behind long bodies while another worker is idle, and would die with this worker as a crash (CORRECTIONS 1.11).
"""

from __future__ import annotations

import attrs

HORIZON = 0.020
"""Seconds: what starts within these may be taken ahead."""
STALE = 0.030
"""Seconds after which what was taken ahead and could not start goes back; longer than the horizon, so that a guess that is a
little off does not carry jobs to and fro."""
MOST_AHEAD = 400
"""Deliveries ahead in all: what goes with one settle (500), less what may be running."""
SMOOTHING = 0.3
"""Weight of the newest sample in the running averages."""


@attrs.define
class Pace:
    """How fast a lane's bodies end in this worker: two running averages, fed once a turn."""

    seconds: float = 0.0
    """Of one body."""
    per_second: float = 0.0
    """Bodies that ended."""
    measured: bool = False

    def add(self, ended: int, spent: float, elapsed: float) -> None:
        """Learn that ``ended`` bodies took ``spent`` seconds in all, within ``elapsed`` seconds."""
        if ended == 0 or elapsed <= 0:
            return
        seconds, rate = spent / ended, ended / elapsed
        if not self.measured:
            self.seconds, self.per_second, self.measured = seconds, rate, True
            return
        self.seconds += SMOOTHING * (seconds - self.seconds)
        self.per_second += SMOOTHING * (rate - self.per_second)

    def ahead(self, concurrency: int) -> int:
        """How many of this lane alone will start within the horizon.

        By the bodies' length, each consumer starts one after the other; by the rate, no more than twice what ended lately: bodies
        that compute share one core, whatever their length says.
        """
        if not self.measured:
            return 0
        by_length = MOST_AHEAD if self.seconds <= 0 else int(concurrency * HORIZON / self.seconds)
        by_rate = int(2 * self.per_second * HORIZON)
        return min(by_length, by_rate, MOST_AHEAD)


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


def share_ahead(paces: dict[str, Pace], load: Load) -> dict[str, int]:
    """How many of each unlimited lane may be taken beyond the room; lanes that get none are left out.

    Several active lanes share the consumers, so they share what is ahead; what waits already is taken off.
    """
    active = {name: pace.ahead(load.consumers) for name, pace in paces.items()}
    active = {name: ahead for name, ahead in active.items() if ahead}
    if not active:
        return {}
    queued = max(0, load.running + load.waiting - load.consumers)
    left = {name: ahead // len(active) - queued for name, ahead in active.items()}
    return {name: ahead for name, ahead in left.items() if ahead > 0}


def is_worth_a_claim(load: Load, extra: int) -> bool:
    """A free consumer is worth a claim at once; more work ahead only by the handful, unless nothing is left to start."""
    if load.room:
        return True
    return extra >= (max(1, load.consumers // 20) if load.waiting else 1)
