"""What a run of the machine and of the simulation did, added up over its parts and told at the end of the session.

A part is recorded by pytest's ``record_property``, so that parts may run in other processes (``-n 4``). Of every check the report says
how many examples, steps and faults there were, how many virtual hours, and how much of that a second of the wall clock brought.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

PROPERTY = "flowq check"
HEADLINE = ("examples", "steps", "faults", "virtual seconds")
"""Counts that each part has."""

Record = Callable[[str, object], None]
"""pytest's fixture ``record_property``."""


def tell(
    record: Record, check: str, seconds: float, counts: Mapping[str, int], reached: Collection[str] = ()
) -> None:
    """One part is done: ``counts`` has those of ``HEADLINE`` and any others; ``reached`` names places that it came to."""
    record(
        PROPERTY,
        {"check": check, "seconds": seconds, "counts": dict(counts), "reached": sorted(reached)},
    )


def told(properties: Iterable[tuple[str, object]]) -> list[Any]:
    """The parts that ``tell`` recorded, among a test report's ``user_properties``."""
    return [value for name, value in properties if name == PROPERTY]


def lines(parts: Iterable[Any]) -> list[str]:
    """The report: a paragraph for each check."""
    checks: dict[str, list[Any]] = {}
    for part in parts:
        checks.setdefault(part["check"], []).append(part)
    return [line for check in sorted(checks) for line in _paragraph(check, checks[check])]


def _paragraph(check: str, parts: list[Any]) -> list[str]:
    seconds = sum(part["seconds"] for part in parts)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part["counts"])
    reached = {place for part in parts for place in part["reached"]}
    hours, per = counts["virtual seconds"] / 3600, 1 / max(seconds, 1e-9)
    rest = [f"{name} {number:,}" for name, number in sorted(counts.items()) if name not in HEADLINE]
    return [
        (
            f"{check}: {counts['examples']:,} examples, {counts['steps']:,} steps, {counts['faults']:,} faults, "
            f"{hours:,.1f} virtual hours in {seconds:,.0f} s and {len(parts)} parts"
        ),
        (
            f"  a second: {counts['examples'] * per:.2f} examples, {counts['steps'] * per:,.0f} steps, "
            f"{counts['faults'] * per:.1f} faults, {hours * per:.4f} virtual hours"
        ),
        *([f"  places reached: {len(reached)}"] if reached else []),
        "  " + ", ".join(rest),
    ]
