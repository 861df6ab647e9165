"""Seven ways to let jobs wait and to give them out, beside flowq's, on one harness: writes ``docs/designs.md`` with its plots.

Two of them failed (flowq v0.0.4 and v0.0.4.1), five might have come next. Each is one file here, built as well as its idea allows.
"""

from __future__ import annotations

from bench.conditions import Conditions, Figure


def bench(conditions: Conditions) -> list[Figure]:
    """Measure all, write the page and its plots, and return the figures at four workers."""
    from bench.designs.comparison import compare
    from bench.designs.page import figures, write
    from bench.designs.plots import WAY_OUT, can_draw

    if not can_draw() and not conditions.quick:
        raise RuntimeError(WAY_OUT)
    compared = compare(conditions)
    write(compared, conditions.pages)
    return figures(compared)
