"""Finds a plan that breaks a promise, and makes it short: for mutants, and for whoever looks for defects all night.

``python -m property_tests.simulation.search NAME`` stores a mutant's plan anew; without a name, those of all that have none.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, settings

from .app import SLOW
from .checker import Rules, Violation, check
from .mutants import MUTANTS
from .plan import Plan
from .run import Run, simulate
from .strategies import plans

STORE = Path(__file__).with_name("mutants.json")


def judge(run: Run) -> list[Violation]:
    """The checker's verdict of one simulation."""
    return check(run.history.events, Rules(run.plan.ttl, SLOW))


def drawn(count: int, seed: int) -> list[Plan]:
    """Plans as Hypothesis draws them."""
    found: list[Plan] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans())
    def collect(plan: Plan) -> None:
        found.append(plan)

    random.seed(seed)
    collect()
    return found


def shorten(plan: Plan, promise: str) -> Plan:
    """Leave out what is not needed to break that promise."""

    def still(candidate: Plan) -> bool:
        return any(violation.promise == promise for violation in judge(simulate(candidate)))

    again = True
    while again:
        again = False
        for candidate in _shorter(plan):
            if still(candidate):
                plan, again = candidate, True
                break
    return plan


def _shorter(plan: Plan) -> Iterator[Plan]:
    if len(plan.faults) > 1:
        yield msgspec.structs.replace(plan, faults=[])
    for i in range(len(plan.faults)):
        yield msgspec.structs.replace(plan, faults=plan.faults[:i] + plan.faults[i + 1 :])
    for i in range(len(plan.ops)):
        yield msgspec.structs.replace(plan, ops=plan.ops[:i] + plan.ops[i + 1 :])
    for i, op in enumerate(plan.ops):
        jobs = getattr(op, "jobs", 1)
        if jobs > 1:
            fewer = msgspec.structs.replace(op, jobs=jobs - 1)
            yield msgspec.structs.replace(plan, ops=[*plan.ops[:i], fewer, *plan.ops[i + 1 :]])
    if plan.workers > 2:
        yield msgspec.structs.replace(plan, workers=plan.workers - 1)


def stored() -> dict[str, dict[str, str]]:
    """By mutant: the promise that it breaks, and the plan."""
    return json.loads(STORE.read_text()) if STORE.exists() else {}


def find(name: str, candidates: list[Plan]) -> tuple[str, Plan] | None:
    """The promise that a mutant breaks, and a short plan on which it does; None: no candidate shows it."""
    for plan in candidates:
        with MUTANTS[name]():
            violations = judge(simulate(plan))
            if violations:
                promise = violations[0].promise
                return promise, shorten(plan, promise)
    return None


def main(names: list[str]) -> None:
    """Search, and store."""
    table = stored()
    candidates = drawn(400, 1)
    for name in names or [name for name in MUTANTS if name not in table]:
        found = find(name, candidates)
        if found is None:
            sys.stdout.write(f"{name}: lives\n")
            continue
        promise, plan = found
        table[name] = {"promise": promise, "plan": plan.encode()}
        sys.stdout.write(f"{name}: {promise}\n")
        sys.stdout.flush()
        STORE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
