"""One SVG a workload: the median of each contestant as a bar, with smallest and largest."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from bench.peers.page import by_measure, plot
from bench.peers.samples import Measure, Row, from_json

FLOWQ, OTHERS = "#d55e00", "#56b4e9"
WAY_OUT = "no plots: matplotlib is missing; pip install 'trio-flowq[bench]'"


def can_draw() -> bool:
    """matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a picture of each workload that has rows."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    rows = [from_json(one) for one in report["rows"]]
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "flowq",
        "font.size": 8,
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings):
        for workload in dict.fromkeys(row.measure.workload for row in rows):
            panels = by_measure(row for row in rows if row.measure.workload == workload)
            tallest = max(len(several) for several in panels.values())
            figure, axes = pyplot.subplots(
                len(panels),
                1,
                figsize=(8, len(panels) * (0.9 + 0.19 * tallest)),
                layout="constrained",
                squeeze=False,
            )
            for axis, (measure, several) in zip(axes[:, 0], panels.items(), strict=True):
                _bars(axis, measure, several)
            path = folder / plot(workload)
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
            written.append(path)
    return written


def _bars(axis: Any, measure: Measure, rows: list[Row]) -> None:
    shown = rows[::-1]
    finite = [value for row in shown for value in row.samples if math.isfinite(value)]
    most = max(finite, default=1.0)
    for at, row in enumerate(shown):
        median = row.median if math.isfinite(row.median) else most
        low, high = min(row.samples), min(max(row.samples), most)
        axis.barh(at, median, color=FLOWQ if row.is_flowq else OTHERS, height=0.7)
        if math.isfinite(row.median):
            axis.plot([low, high], [at, at], color="black", linewidth=1)
            text = f" {median:,.3g}" if median < 100 else f" {median:,.0f}"
        else:
            text = " " + row.note
        axis.text(max(median, high), at, text, va="center", fontsize=7)
    axis.set_yticks(range(len(shown)), [row.contestant for row in shown])
    axis.set_xlim(0, most * 1.15)
    better = "more is better" if measure.more_is_better else "less is better"
    axis.set_title(f"{measure.name}, {measure.unit} ({better}; line: smallest to largest)", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
