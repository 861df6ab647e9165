"""What was measured: samples of each contestant by round, beside flowq's of the same round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from bench.conditions import percentile


@attrs.frozen
class Measure:
    """A quantity of a workload."""

    workload: str
    name: str
    unit: str
    more_is_better: bool = True


@attrs.define
class Row:
    """One contestant's samples of one measure."""

    measure: Measure
    contestant: str
    is_flowq: bool
    samples: list[float] = attrs.field(factory=list)
    pairs: list[tuple[float, float]] = attrs.field(factory=list)
    """(flowq's, its own) of the same minutes."""
    facts: dict[str, list[float]] = attrs.field(factory=dict)
    """What else a run told, such as µs of Redis's CPU by the job."""
    settings: dict[str, Any] = attrs.field(factory=dict)
    note: str = ""

    @property
    def median(self) -> float:
        return percentile(self.samples, 50)

    @property
    def ratios(self) -> list[float]:
        """How many times as good as it flowq was, in each pair."""
        found = []
        for ours, theirs in self.pairs:
            more, less = (ours, theirs) if self.measure.more_is_better else (theirs, ours)
            if less and math.isfinite(more):
                found.append(more / less)
        return found

    def add(self, other: Row) -> None:
        """What another run of the same measured."""
        self.samples += other.samples
        self.pairs += other.pairs
        for name, values in other.facts.items():
            self.facts.setdefault(name, []).extend(values)

    def fact(self, name: str) -> float | None:
        """The median of one."""
        return percentile(self.facts[name], 50) if self.facts.get(name) else None


def interval(ratios: Sequence[float]) -> tuple[float, float, bool]:
    """Order statistics around the median that hold it with a probability of 95 %, whatever the distribution.

    Returns:
        The two ends, and whether there were enough pairs (six); otherwise the ends are smallest and largest.
    """
    ordered = sorted(ratios)
    n = len(ordered)
    cut, below = 0, 0.0
    while True:
        below += math.comb(n, cut) / 2**n
        if 2 * below > 0.05:
            break
        cut += 1
    return (ordered[0], ordered[-1], False) if cut == 0 else (ordered[cut - 1], ordered[n - cut], True)


def to_json(row: Row) -> dict[str, Any]:
    """All of it, with what follows from it."""
    ratios = row.ratios
    low, high, enough = interval(ratios) if ratios else (None, None, False)
    return {
        **attrs.asdict(row),
        "median": row.median,
        "flowq_is_times": percentile(ratios, 50) if ratios else None,
        "interval": [low, high],
        "interval_is_95": enough,
    }


def from_json(data: dict[str, Any]) -> Row:
    """What ``to_json`` wrote."""
    return Row(
        Measure(**data["measure"]),
        data["contestant"],
        data["is_flowq"],
        data["samples"],
        [(ours, theirs) for ours, theirs in data["pairs"]],
        data["facts"],
        data["settings"],
        data["note"],
    )
