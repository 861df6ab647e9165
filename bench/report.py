"""What a run says: a table for people, JSON for machines, and on which machine it was."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.conditions import Conditions, Figure, load_average


def machine(conditions: Conditions) -> dict[str, Any]:
    """Facts without which no figure means anything."""
    shown = subprocess.run(
        [conditions.server, "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"v=(\S+)", shown)
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
        "cpu": _cpu_name(),
        "load_before": load_average(),
        "spin_us": spin(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "redis": found[1] if found else shown.strip(),
        "persistence": conditions.persistence,
        "versions": {name: version(name) for name in ("anyio", "trio", "redis", "hiredis", "msgspec")},
        "runs": conditions.runs,
        "seconds": conditions.seconds,
    }


def spin() -> float:
    """µs of wall time of a fixed piece of Python, best of five: how fast this machine is just now."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(20_000):
            pass
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        return found[1]
    return platform.processor()


def table(title: str, figures: Sequence[Figure]) -> Table:
    """One row a figure."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name, side in (
        ("bench", "left"), ("loop", "left"), ("figure", "left"), ("median", "right"), ("min", "right"), ("max", "right"),
        ("n", "right"), ("target", "left"), ("met", "left"), ("load", "right"),
    ):  # fmt: skip
        shown.add_column(name, justify=side, overflow="fold", no_wrap=name not in ("figure", "target"))  # type: ignore[arg-type]  # a literal type
    last = ""
    for one in figures:
        if last and one.question != last:
            shown.add_section()
        met = "" if one.target is None else "[green]yes[/]" if one.target.is_met(one) else "[red]NO[/]"
        name = f"{one.name}, {one.unit}" + (f" ({one.note})" if one.note else "")
        shown.add_row(
            "" if one.question == last else one.question, one.backend, name, number(one.median), number(one.min), number(one.max),
            str(len(one.samples)), "" if one.target is None else str(one.target), met, f"{one.load:.1f}",
        )  # fmt: skip
        last = one.question
    return shown


def number(value: float) -> str:
    """With three digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def show(figures: Sequence[Figure], facts: dict[str, Any]) -> None:
    """Print the whole table, with its conditions."""
    width = None if sys.stdout.isatty() else 170
    console = Console(width=width)
    console.print(table(conditions_line(facts), figures))
    judged = [figure for figure in figures if figure.target is not None]
    missed = [figure for figure in judged if figure.target is not None and not figure.target.is_met(figure)]
    console.print(f"{len(judged) - len(missed)} of {len(judged)} targets met")
    if facts["load_before"] > 0.5:
        console.print(
            f"[yellow]Load average was {facts['load_before']:.1f} before: other work was running, and figures are worse than "
            "this machine's own.[/]"
        )


def conditions_line(facts: dict[str, Any]) -> str:
    return (
        f"{facts['cpus']} × {facts['cpu']}, Python {facts['python']}, trio {facts['versions']['trio']}, Redis {facts['redis']} on a "
        f"unix socket, append-only file: {facts['persistence']}, load before {facts['load_before']:.2f}"
    )


def write_json(path: Path, figures: Sequence[Figure], facts: dict[str, Any]) -> None:
    """Everything that was measured, each sample."""
    rows = [
        {
            "bench": one.question,
            "backend": one.backend,
            "figure": one.name,
            "unit": one.unit,
            "median": one.median,
            "min": one.min,
            "max": one.max,
            "samples": one.samples,
            "target": None if one.target is None else str(one.target),
            "met": None if one.target is None else one.target.is_met(one),
            "note": one.note,
            "load": one.load,
        }
        for one in figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": facts, "figures": rows}, indent=1, ensure_ascii=False) + "\n")


def markdown(data: dict[str, Any]) -> str:
    """The figures of a run (what ``write_json`` wrote) as a table for a page, with its conditions."""
    lines = [conditions_line(data["machine"]) + ".", ""]
    lines += [
        "| bench | loop | figure | median | min – max | n | target | met |",
        "|---|---|---|--:|--:|--:|---|---|",
    ]
    for row in data["figures"]:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        name = f"{row['figure']}, {row['unit']}" + (f" ({row['note']})" if row["note"] else "")
        spread = f"{number(row['min'])} – {number(row['max'])}"
        cells = (
            row["bench"],
            row["backend"],
            name,
            number(row["median"]),
            spread,
            str(len(row["samples"])),
            row["target"] or "",
            met,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def profile(data: dict[str, Any]) -> str:
    """The figures of ``bench/where.py`` as text, a block for each case."""
    lines = [
        conditions_line(data["machine"]) + f". Medians of {data['machine']['runs']}; µs for each job.",
        "",
    ]
    last = ""
    for row in data["figures"]:
        case, _, what = row["figure"].partition(": ")
        if case != last:
            lines += ["```", ""] if last else []
            lines += [f"### {case[0].upper()}{case[1:]}", "", "```text"]
            last = case
        lines.append(f"{row['median']:9.2f}  {what}" + (f"  ({row['note']})" if row["note"] else ""))
    return "\n".join([*lines, "```" if last else ""]) + "\n"


def write_between(page: Path, begin: str, text: str, end: str) -> None:
    """Replace what is between a page's two marks.

    Raises:
        ValueError: it lacks one of them.
    """
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks the lines {begin} and {end}")
    page.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}")
