"""The page: tables between two marks of ``docs/designs.md``, the plots beside it, and all figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from bench import report
from bench.conditions import Figure, Target, percentile
from bench.designs.candidates import DESIGNS
from bench.designs.comparison import AtSize, Comparison, Effort, Measured
from bench.designs.design import TTL
from bench.designs.plots import can_draw, draw
from bench.designs.scenarios import STORY, Kill, Noops, Story

PROSE = Path(__file__).parents[2] / "docs" / "designs.md"
BEGIN, END = (
    "<!-- begin: written by python -m bench designs -->",
    "<!-- end: written by python -m bench designs -->",
)
DATA = "designs.json"
FIRST = "head-lock"
"""What the others' savings are measured against."""


def write(compared: Comparison, folder: Path) -> None:
    """Write ``designs.md``, ``designs.json`` and, if they can be drawn, ``img/designs-*.svg``; what stands around the tables is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    store(compared, folder / DATA)
    show(folder)


def show(folder: Path) -> None:
    """Page and plots, from the data that ``folder`` holds."""
    compared = read(folder / DATA)
    before, _, rest = PROSE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    (folder / "designs.md").write_text(f"{before}{BEGIN}\n\n{tables(compared)}\n{END}{after}")
    if can_draw():
        draw(compared, folder / "img")


def store(compared: Comparison, path: Path) -> None:
    """All figures, a line for each design and size; the page is made from what this file holds."""
    lines = []
    for name, one in compared.measured.items():
        parts = [f'  "at": {{\n{_lines({str(n): attrs.asdict(at) for n, at in one.at.items()}, 3)}\n  }}']
        parts += [
            f'  "{form}": {_compact(kill and attrs.asdict(kill))}'
            for form, kill in (("killed", one.killed), ("bare", one.bare))
        ]
        lines.append(f' "{name}": {{\n' + ",\n".join(parts) + "\n }")
    text = "{\n" + _lines({"facts": compared.facts, "effort": attrs.asdict(compared.effort)}, 0)
    path.write_text(text + ',\n"measured": {\n' + ",\n".join(lines) + "\n}\n}\n")


def _lines(mapping: dict[str, Any], indent: int) -> str:
    return ",\n".join(f'{" " * indent}"{key}": {_compact(value)}' for key, value in mapping.items())


def _compact(value: Any) -> str:
    return json.dumps(
        json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 3)), ensure_ascii=False
    )


def read(path: Path) -> Comparison:
    """What ``store`` wrote."""
    data = json.loads(path.read_text())
    measured = {
        name: Measured(
            at={int(n): _at_size(at) for n, at in one["at"].items()},
            killed=Kill(**one["killed"]),
            bare=Kill(**one["bare"]) if one["bare"] else None,
        )
        for name, one in data["measured"].items()
    }
    effort: dict[str, Any] = data["effort"]
    effort["workers"] = tuple(effort["workers"])
    return Comparison(data["facts"], Effort(**effort), measured)


def _at_size(at: Any) -> AtSize:
    noops = [Noops(**run) for run in at["noops"]]
    return AtSize(noops, Story(**at["story"]), at["alone_ms"], at["beside_ms"])


def tables(compared: Comparison) -> str:
    """Everything between the marks."""
    middle = _middle(compared)
    parts = [
        conditions(compared),
        f"### Right or wrong, {middle} workers",
        _table(
            ("design", "bodies at once at limit 3: peak", "on average", f"lost of {STORY}, nobody died",
             "killed worker's jobs lost", "without added recovery", "started elsewhere after, s", "peak in that run"),
            {name: _right(one.at[middle], one) for name, one in compared.measured.items()},
        ),
        f"### What it costs, {middle} workers",
        _table(
            ("design", "no-op jobs/s", "CPU per job, µs: workers + Redis", "saved against (0), µs", "CPU per limited job, ms",
             "latency alone, ms: p50 / p99", "beside a saturated type, ms: p50 / p99"),
            {name: _cost(compared, one.at[middle], middle) for name, one in compared.measured.items()},
        ),
        "### By the number of workers",
        _amiss(compared),
        "No-op jobs/s:",
        _by_size(compared, lambda one: report.number(_median([run.per_second for run in one.noops]))),
        "Attempts for nothing per job, full queue of no-ops / twelve jobs at limit 3:",
        _by_size(compared, lambda one: f"{_short(one.noops[-1].empty)} / {_short(one.story.empty)}"),
        "Bodies at once at limit 3, on average (peak):",
        _by_size(compared, lambda one: f"{one.story.effective:.2f} ({one.story.peak})"),
        "CPU per no-op job, µs, workers + Redis:",
        _by_size(compared, _cpu),
        "Latency of single jobs, ms, p50 / p99, alone:",
        _by_size(compared, lambda one: _quantiles(one.alone_ms)),
        "… and beside a saturated limited type:",
        _by_size(compared, lambda one: _quantiles(one.beside_ms)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def conditions(compared: Comparison) -> str:
    """Without which no figure means anything."""
    facts, effort = compared.facts, compared.effort
    return (
        f"Measured {facts['at'][:10]} by `python -m bench designs`, on {facts['cpus']} cores of {facts['cpu']}, Python "
        f"{facts['python']} ({facts['loop']}), Redis {facts['redis']} on a unix socket, append-only file: {facts['persistence']}; load "
        f"average {facts['load_before']:.1f} before and {facts['load_after']:.1f} after, the bench's own share in it. {effort.slots} bodies at once in each worker ({effort.slots_killed} where one "
        f"is killed); lease {TTL:g} s; no-ops: median of {effort.runs}; {effort.pings} single jobs for each latency, so a p99 is about "
        "the largest of them."
    )


def figures(compared: Comparison) -> list[Figure]:
    """For the bench's own table: what the four workers of each design did."""
    found = []
    loop, middle = compared.facts["loop"], _middle(compared)
    for name, one in compared.measured.items():
        at, label = one.at[middle], DESIGNS[name].label
        exact = name == "flowq"
        rows: list[tuple[str, str, list[float], Target | None]] = [
            ("no-op jobs", "jobs/s", [run.per_second for run in at.noops], None),
            ("client + Redis CPU", "µs/job", [run.client_us + run.redis_us for run in at.noops], None),
            ("attempts for nothing at limit 3", "per job", [at.story.empty], None),
            ("peak at limit 3", "bodies", [at.story.peak], Target("at most", 3, "P2") if exact else None),
            ("lost without a kill", f"of {STORY}", [at.story.lost], Target("at most", 0, "P1") if exact else None),
            ("lost with a kill", "jobs", [one.killed.lost], Target("at most", 0, "P1") if exact else None),
        ]  # fmt: skip
        found += [
            Figure("designs", loop, f"{label}: {what}", unit, samples, target)
            for what, unit, samples, target in rows
        ]
    return found


def _middle(compared: Comparison) -> int:
    return compared.effort.killed_of


def _right(at: AtSize, one: Measured) -> list[str]:
    return [
        str(at.story.peak),
        f"{at.story.effective:.2f}",
        str(at.story.lost),
        _lost(one.killed),
        _lost(one.bare) if one.bare else "",
        f"{one.killed.seconds:.1f}" if one.killed.lost_in_hand < one.killed.in_hand else "never",
        str(one.killed.peak),
    ]


def _amiss(compared: Comparison) -> str:
    """The no-ops, where nobody dies and no limit is in the way."""
    found = []
    for name, one in compared.measured.items():
        runs = [run for at in one.at.values() for run in at.noops]
        lost, twice = sum(run.lost for run in runs), sum(run.twice for run in runs)
        if lost or twice:
            found.append(f"{DESIGNS[name].label}: {lost} lost, {twice} run twice")
    return (
        "No-op jobs that were lost or ran twice: "
        + ("; ".join(found) or "none, in any run of any design")
        + "."
    )


def _lost(kill: Kill) -> str:
    return f"{kill.lost_in_hand} of {kill.in_hand}"


def _cost(compared: Comparison, at: AtSize, size: int) -> list[str]:
    first = _total(compared.measured[FIRST].at[size]) if FIRST in compared.measured else 0.0
    saved = first - _total(at)
    return [
        report.number(_median([run.per_second for run in at.noops])),
        _cpu(at),
        f"{saved:.0f} ({saved / first:.0%})" if first and saved else "",
        f"{at.story.cpu_us / 1000:.1f}",
        _quantiles(at.alone_ms),
        _quantiles(at.beside_ms),
    ]


def _total(at: AtSize) -> float:
    return _median([run.client_us + run.redis_us for run in at.noops])


def _cpu(at: AtSize) -> str:
    client, server = (_median([getattr(run, part) for run in at.noops]) for part in ("client_us", "redis_us"))
    return f"{client:.0f} + {server:.0f}"


def _quantiles(samples: list[float]) -> str:
    return f"{percentile(samples, 50):.1f} / {percentile(samples, 99):.1f}"


def _median(samples: list[float]) -> float:
    return percentile(samples, 50)


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _by_size(compared: Comparison, cell: Callable[[AtSize], str]) -> str:
    heads = ("design", *(f"{n} worker{'s' if n > 1 else ''}" for n in compared.effort.workers))
    rows = {
        name: [cell(one.at[n]) for n in compared.effort.workers] for name, one in compared.measured.items()
    }
    return _table(heads, rows)


def _table(heads: tuple[str, ...], rows: dict[str, list[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for name, cells in rows.items():
        lines.append(f"| {DESIGNS[name].label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    show(PROSE.parent)
