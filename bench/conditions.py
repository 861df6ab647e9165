"""Under which conditions a run measures, and the sorts of numbers that come out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs

Better = Literal["at least", "at most"]
Judged = Literal["median", "min", "max"]


@attrs.frozen
class Conditions:
    """What the command line said."""

    server: Path
    """The redis-server program."""
    backends: tuple[str, ...] = ("trio", "asyncio")
    runs: int = 3
    seconds: float = 2.0
    """How long one measurement lasts, about: the number of jobs follows from it."""
    persistence: Literal["none", "everysec", "always"] = "none"
    """Of the server: none, or an append-only file with this ``appendfsync``."""
    quick: bool = False
    """``designs``: tiny numbers, which show that it runs."""
    pages: Path = Path(__file__).parents[1] / "docs"
    """``designs``: where its page and its plots go."""


@attrs.frozen
class Target:
    """What a figure shall reach, and who says so."""

    way: Better
    value: float
    source: str
    judged: Judged = "median"
    """Which value of the spread it speaks of."""

    def is_met(self, figure: Figure) -> bool:
        value = float(getattr(figure, self.judged))
        return value >= self.value if self.way == "at least" else value <= self.value

    def __str__(self) -> str:
        sign = "≥" if self.way == "at least" else "≤"
        which = "" if self.judged == "median" else f"{self.judged} "
        return f"{which}{sign} {self.value:,g} ({self.source})"


@attrs.define
class Figure:
    """One measured quantity: a sample of each run, in the order of the runs."""

    question: str
    """The bench that measured it."""
    backend: str
    name: str
    unit: str
    samples: list[float]
    target: Target | None = None
    note: str = ""
    load: float = 0.0
    """The machine's load average (1 min) before the bench began."""

    @property
    def median(self) -> float:
        return percentile(self.samples, 50)

    @property
    def min(self) -> float:
        return min(self.samples)

    @property
    def max(self) -> float:
        return max(self.samples)


def percentile(samples: Sequence[float], percent: float) -> float:
    """By linear interpolation between the two nearest ranks. ``samples`` are not empty."""
    ordered = sorted(samples)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    if at == low or ordered[low] == ordered[high]:
        return ordered[low]  # also where both are infinite: an end that never came
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


class Gone(RuntimeError):
    """What a bench waited for did not happen."""


def deadline(seconds: float, what: str) -> Deadline:
    """For ``while …: limit.wait()``."""
    return Deadline(time.monotonic() + seconds, what)


@attrs.frozen
class Deadline:
    """The end of a bench's patience."""

    at: float
    what: str

    def wait(self, pause: float = 0.01) -> None:
        """Sleep, or give up.

        Raises:
            Gone: the time is over.
        """
        if time.monotonic() > self.at:
            raise Gone(f"the bench waited in vain until {self.what}")
        time.sleep(pause)
