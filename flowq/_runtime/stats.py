"""What a worker can tell about itself at any moment, without asking the server."""

from __future__ import annotations

import attrs

from flowq._runtime.assembly import Crew


@attrs.frozen
class WorkerStats:
    """A snapshot. Counters run since the worker started."""

    running: int
    """Bodies."""
    limited: int
    """Of them, bodies of limited tasks."""
    waiting: int
    """Jobs that were claimed and have not started."""
    unsent: int
    """Bodies that have ended and whose outcome has not been answered for."""
    succeeded: int
    retried: int
    dead: int
    cancelled: int
    handed_back: int
    refused: int
    """Outcomes that were not taken: another delivery owns the job, or it is gone."""
    leases_lost: int
    loop_stalls: int
    """Times that the event loop stood still for two seconds or more."""
    outages: int
    """Times that the server could not be reached."""
    cut_off: int
    """Bodies that were cancelled at the end because their grace was over."""
    turns: int
    """Round trips of the exchange."""
    last_answer: float
    """Monotonic seconds (``clock.monotonic_clock``) of the last claim or settle that was answered."""
    is_member: bool
    is_draining: bool

    def summary(self) -> str:
        """One line for a log: what became of the jobs; what there was none of is left out."""
        counts = {
            "succeeded": self.succeeded, "retried": self.retried, "dead": self.dead, "cancelled": self.cancelled,
            "handed back": self.handed_back, "refused": self.refused, "cut off": self.cut_off,
        }  # fmt: skip
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n) or "no jobs"


def collect(crew: Crew, *, cut_off: int, draining: bool) -> WorkerStats:
    floor, tally = crew.floor, crew.exchange.tally
    waiting = len(floor.ready)
    return WorkerStats(
        running=floor.running,
        limited=floor.limited_bodies(),
        waiting=waiting,
        unsent=max(0, len(floor.known) - waiting - floor.running),
        succeeded=tally.get("Succeeded", 0),
        retried=tally.get("Again", 0),
        dead=tally.get("Dead", 0),
        cancelled=tally.get("Cancelled", 0),
        handed_back=tally.get("Released", 0),
        refused=tally.get("job.fenced", 0) + tally.get("job.gone", 0),
        leases_lost=floor.events.counts.get("lease.lost", 0),
        loop_stalls=floor.events.counts.get("loop.stalled", 0),
        outages=floor.events.counts.get("redis.lost", 0),
        cut_off=cut_off,
        turns=crew.exchange.turns,
        last_answer=crew.exchange.answered_at,
        is_member=not crew.member.over,
        is_draining=draining,
    )
