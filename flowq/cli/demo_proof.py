"""What the demo claims, decided from recorded intervals alone: sums over starts and ends, no word of flowq's is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

NEARLY: Final = 0.85
"""Share of the limit that must have run on average, while jobs waited, outside of the recovery: settling takes time, too."""


@attrs.frozen
class Body:
    """One run of a job's body. Monotonic seconds, the same clock in all processes."""

    task: str
    job: str
    pid: int
    start: float
    end: float | None
    """None: it was cut off (its process was killed) or still runs."""

    def until(self, killed: int, gone_at: float) -> float:
        """When it ended; a body of the killed process ended when that process was gone."""
        if self.end is not None:
            return self.end
        return gone_at if self.pid == killed else float("inf")


def read_bodies(directory: Path) -> list[Body]:
    """Every body that the witness files know of. A line that is being written is left for the next look."""
    found: dict[tuple[str, int, int], Body] = {}
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            row = json.loads(line)
            key = (row["job"], row["pid"], row["fence"])
            if "start" in row:
                found[key] = Body(row["task"], row["job"], row["pid"], row["start"], None)
            else:
                found[key] = attrs.evolve(found[key], end=row["end"])
    return sorted(found.values(), key=lambda body: body.start)


@attrs.frozen
class Kill:
    """The SIGKILL of one worker process."""

    pid: int
    at: float
    gone_at: float
    """When the process was not there any more: the latest moment at which its bodies can have run."""
    jobs: tuple[str, ...]
    """Limited jobs whose bodies it cut off."""


def peak(bodies: Iterable[tuple[float, float]]) -> int:
    """The most intervals that were open at once."""
    edges = sorted([(start, 1) for start, _ in bodies] + [(end, -1) for _, end in bodies])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def average(bodies: Sequence[tuple[float, float]], windows: Iterable[tuple[float, float]]) -> float:
    """How many intervals were open on average within the windows; 0 if those are empty."""
    length = covered = 0.0
    for low, high in windows:
        length += max(0.0, high - low)
        covered += sum(max(0.0, min(end, high) - max(start, low)) for start, end in bodies)
    return covered / length if length else 0.0


@attrs.frozen
class Proof:
    """The summary's figures."""

    peak: int
    effective: float
    """Average of running ``example`` bodies while jobs waited, outside of the recovery."""
    overall: float
    """The same with the recovery, in which the dead worker's tokens idle."""
    recovery: float | None
    """Seconds from the kill until the cut-off jobs ran elsewhere; None: they never did."""
    bodies: dict[int, dict[str, int]]
    """Process id → task → bodies that began there."""
    limited_workers: int
    """Processes that ran ``example`` bodies."""

    def defects(self, limit: int) -> list[str]:
        """What does not hold; empty: all does."""
        found = []
        if self.peak != limit:
            found.append(f"{self.peak} example bodies ran at once, not {limit}")
        if self.effective < NEARLY * limit:
            found.append(
                f"only {self.effective:.2f} example bodies ran on average while jobs waited, of {limit}"
            )
        if self.limited_workers < 3:
            found.append(f"only {self.limited_workers} worker processes ran example bodies")
        if self.recovery is None:
            found.append("the cut-off jobs did not run again")
        return found


def prove(bodies: Sequence[Body], kill: Kill) -> Proof:
    """Add up the intervals."""
    limited = [b for b in bodies if b.task == "example"]
    intervals = [(b.start, b.until(kill.pid, kill.gone_at)) for b in limited]
    again = {job: [b.start for b in limited if b.job == job and b.start > kill.at] for job in kill.jobs}
    recovered = max((min(starts) for starts in again.values()), default=None) if all(again.values()) else None
    first, last = limited[0].start, limited[-1].start
    calm = (
        [(first, last)] if recovered is None else [(first, min(kill.at, last)), (min(recovered, last), last)]
    )
    counts: dict[int, dict[str, int]] = {}
    for body in bodies:
        counts.setdefault(body.pid, {}).setdefault(body.task, 0)
        counts[body.pid][body.task] += 1
    return Proof(
        peak=peak(intervals),
        effective=average(intervals, calm),
        overall=average(intervals, [(first, last)]),
        recovery=None if recovered is None else recovered - kill.at,
        bodies=counts,
        limited_workers=len({b.pid for b in limited}),
    )
