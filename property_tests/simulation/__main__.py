"""Replays a simulation: ``python -m property_tests.simulation PLAN``, as a failure has printed it. Exit code 1: a promise breaks.

``--history`` prints what was seen; ``--steps`` every step of every task, for finding where two runs part; ``--mutant NAME`` replays
on a broken variant.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from .history import Vouched
from .mutants import MUTANTS
from .plan import Plan
from .run import judge, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m property_tests.simulation", description=__doc__)
    parser.add_argument("plan", help="the JSON that a failure printed")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    asked = parser.parse_args()
    with MUTANTS[asked.mutant].patch() if asked.mutant else contextlib.nullcontext():
        run = simulate(Plan.decode(asked.plan), trace=asked.steps)
    for row in run.gate.trace or ():
        sys.stdout.write(f"{row}\n")
    for event in run.history.events if asked.history else ():
        if not isinstance(event, Vouched):
            sys.stdout.write(f"{event}\n")
    violations = judge(run)
    for violation in violations:
        sys.stdout.write(f"{violation}\n")
    sys.stdout.write(f"{run.virtual:.1f} virtual s, {run.gate.steps} steps; {len(violations)} violations\n")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
