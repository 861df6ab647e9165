"""``python -m property_tests.model [--full] [WORD ...]``: run the rows whose name or group contains a word, print the table.

Exit status 1 if a row came out otherwise than expected. ``--full`` adds the long rows and larger bounds. Traces are printed for
named rows and for surprises.
"""

# ruff: noqa: T201 - the table is what this module is for

from __future__ import annotations

import gc
import sys
import time

from property_tests.model.check import Result, said, search
from property_tests.model.mutants import EQUIVALENT, MISREAD, MUTANTS
from property_tests.model.rows import CORRECT, FULL, HOLDS, SAME, SWEEP, Row

DEFAULT_BOUND, FULL_BOUND = 1_000_000, 6_000_000


def as_expected(row: Row, result: Result) -> bool:
    """Killed for the right reason, or not at all."""
    if row.expect in (HOLDS, SAME):
        return result.violation is None
    return result.violation is not None and row.expect in result.violation


def verdict(row: Row, result: Result) -> str:
    if result.violation:
        return result.violation
    return row.expect if result.complete else f"{row.expect} so far, BOUNDED"


def main(arguments: list[str]) -> int:
    """Run and print; returns the number of surprises."""
    full = "--full" in arguments
    words = [a for a in arguments if not a.startswith("-")]
    rows = CORRECT + (FULL if full else []) + SWEEP + MISREAD + MUTANTS + EQUIVALENT
    rows = [r for r in rows if not words or any(w in r.name or w == r.group for w in words)]
    gc.disable()  # states are tuples without cycles, and millions of them
    total = wrong = 0
    begun = time.perf_counter()
    print("| group | row | states | s | steps | verdict |\n|---|---|---|---|---|---|")
    for r in rows:
        t = time.perf_counter()
        result = search(r.world, FULL_BOUND if full else DEFAULT_BOUND, r.every)
        seconds = time.perf_counter() - t
        good = as_expected(r, result)
        total, wrong = total + result.states, wrong + (not good)
        found = ("" if good else "UNEXPECTED: ") + verdict(r, result)
        print(
            f"| {r.group} | {r.name} | {result.states:,} | {seconds:.1f} | {result.steps or ''} | {found} |",
            flush=True,
        )
        if result.trace and (words or not good):
            print("  " + "; ".join(said(x) for x in result.trace), flush=True)
    spent = time.perf_counter() - begun
    print(
        f"\n{len(rows)} rows, {total:,} states, {spent:.0f} s ({total / max(spent, 0.001):,.0f} a second), {wrong} unexpected"
    )
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
