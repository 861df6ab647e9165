"""The page's plots: SVG by matplotlib, which ``pip install 'trio-flowq[bench]'`` brings."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.conditions import percentile
from bench.designs.candidates import DESIGNS

if TYPE_CHECKING:
    from bench.designs.comparison import AtSize, Comparison

COLOURS = {
    "head-lock": "#999999", "pop-first": "#bbbbbb", "sharded": "#56b4e9", "dispatched": "#009e73",
    "one-stream": "#e69f00", "list-per-type": "#cc79a7", "shards-per-type": "#0072b2", "flowq": "#d55e00",
}  # fmt: skip
"""Okabe and Ito's, which most colour-blind people can tell apart."""
MARKERS = dict(zip(COLOURS, "oxs^vD*P", strict=True))
WAY_OUT = "the plots are drawn by matplotlib: pip install 'trio-flowq[bench]'"


def can_draw() -> bool:
    """matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(compared: Comparison, folder: Path) -> None:
    """Write ``designs-by-workers.svg`` and ``designs-costs.svg``."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "flowq",
        "font.size": 9,
        "font.family": "sans-serif",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(settings):
        for name, figure in (
            ("by-workers", _by_workers(pyplot, compared)),
            ("costs", _costs(pyplot, compared)),
        ):
            figure.savefig(folder / f"designs-{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)


def _by_workers(pyplot: Any, compared: Comparison) -> Any:
    """Lines over the number of workers."""
    panels: tuple[tuple[str, str, Callable[[AtSize], float]], ...] = (
        ("No-op jobs a second", "log", lambda one: percentile([run.per_second for run in one.noops], 50)),
        ("Attempts for nothing per job, limit 3", "symlog", lambda one: one.story.empty),
        ("Bodies at once at limit 3, on average", "linear", lambda one: one.story.effective),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    sizes = compared.effort.workers
    for axis, (title, scale, value) in zip(axes, panels, strict=True):
        for name, one in compared.measured.items():
            style = {
                "color": COLOURS[name],
                "marker": MARKERS[name],
                "linewidth": 2.5 if name == "flowq" else 1.3,
            }
            axis.plot(sizes, [value(one.at[n]) for n in sizes], label=DESIGNS[name].label, **style)
        axis.set_title(title, fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.set_xlabel("workers")
        axis.set_yscale(scale)
        axis.yaxis.set_major_formatter(_plain)
        axis.grid(visible=True, alpha=0.3)
    for axis in axes[1:]:
        axis.set_ylim(0)
    axes[2].axhline(3, color="black", linewidth=0.8, linestyle="--")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _costs(pyplot: Any, compared: Comparison) -> Any:
    """Bars at the middle number of workers."""
    size = compared.effort.killed_of
    names = list(compared.measured)[::-1]
    rows, labels = range(len(names)), [DESIGNS[name].label for name in names]
    sizes = [compared.measured[name].at[size] for name in names]
    kills = [compared.measured[name].killed for name in names]
    colours = [COLOURS[name] for name in names]
    figure, (cpu, latency, lost) = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharey=True)
    client = [percentile([run.client_us for run in one.noops], 50) for one in sizes]
    server = [percentile([run.redis_us for run in one.noops], 50) for one in sizes]
    cpu.barh(rows, client, color=colours)
    cpu.barh(rows, server, left=client, color=colours, alpha=0.45, hatch="///", edgecolor="white")
    cpu.set_title(f"CPU per no-op job, µs\nworkers, Redis (hatched); {size} workers", fontsize=10)
    for row, one in zip(rows, sizes, strict=True):
        p50, p99 = (percentile(one.beside_ms, q) for q in (50, 99))
        latency.plot([p50, p99], [row, row], color=colours[row], linewidth=2)
        latency.plot([p50], [row], "o", color=colours[row])
        latency.plot([p99], [row], "|", color=colours[row], markersize=10)
    latency.set_xscale("log")
    latency.xaxis.set_major_formatter(_plain)
    latency.set_title("Latency beside a saturated type, ms\np50 ● to p99 |", fontsize=10)
    story = [one.story.lost for one in sizes]
    bare = [one.bare.lost_in_hand if one.bare else 0 for one in (compared.measured[name] for name in names)]
    lost.barh(rows, story, color="#444444")
    lost.barh(rows, [kill.lost_in_hand for kill in kills], left=story, color="#c0392b")
    lost.barh(rows, bare, color="white", edgecolor="#c0392b", linestyle="--")
    lost.set_title(
        "Jobs lost, nobody dead (grey), a worker\nkilled (red; dashed: the bare structure)", fontsize=10
    )
    cpu.set_yticks(rows, labels)
    for axis in (cpu, latency, lost):
        axis.set_axisbelow(True)
        axis.grid(visible=True, axis="x", alpha=0.3)
    return figure


def _plain(value: float, _: int) -> str:
    return f"{value:,g}" if abs(value) < 1000 else f"{value:,.0f}"
