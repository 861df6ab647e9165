"""What a run says: tables for people and for ``docs/benchmarks.md``, JSON, and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.conditions import percentile
from bench.peers.samples import Measure, Row, from_json, interval, to_json
from bench.report import number

BEGIN, END = "<!-- peers: written by python -m bench peers --page -->", "<!-- peers: end -->"
DATA = "benchmarks-peers.json"
"""What the page's tables are made from, beside the page."""
WORKLOADS = {
    "a": "(a) No-op jobs, enqueue excluded",
    "b": "(b) Enqueue, by one process",
    "c": "(c) Bodies that wait, in one process",
    "d": "(d) Latency: before the call that enqueues → first line of the body",
    "e": "(e) A limit over all workers",
    "f": "(f) Memory, and what goes over the wire",
    "g": "(g) Recovery after SIGKILL",
}


def part(report: dict[str, Any], workloads: Sequence[str]) -> dict[str, Any]:
    """What a page says of a run that is one of several."""
    return {
        "workloads": list(workloads),
        "machine": report["machine"],
        "plan": report["plan"],
        "loads": report["loads"],
        "took_s": report["took_s"],
        "quick": report["quick"],
    }


def parts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that a report is made of; one that says nothing of them is one run."""
    found: list[dict[str, Any]] = report.get("parts", [])
    return found or [part(report, sorted({row["measure"]["workload"] for row in report["rows"]}))]


def together(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several, each of other workloads or of other peers; machine and plan of each are in ``parts``.

    flowq plays in all of them: its samples of one measure are put together, and every peer keeps the pairs of its own run.

    Raises:
        ValueError: a peer has the same workload in two of them, or they are of different machines.
    """
    whole = dict(reports[0])
    machines = {tuple(report["machine"][key] for key in ("cpu", "cpus", "redis")) for report in reports}
    if len(machines) > 1:
        raise ValueError(f"these runs are of different machines or servers: {sorted(machines)}")
    for name in ("loads", "failures"):
        whole[name] = [one for report in reports for one in report[name]]
    whole["parts"] = [one for report in reports for one in parts(report)]
    for name in ("missing", "peers", "swept"):
        whole[name] = {key: value for report in reports for key, value in report[name].items()}
    whole["took_s"] = sum(report["took_s"] for report in reports)
    whole["quick"] = any(report["quick"] for report in reports)
    rows: dict[tuple[Measure, str], Row] = {}
    for row in (from_json(one) for report in reports for one in report["rows"]):
        key = (row.measure, row.contestant)
        if key not in rows:
            rows[key] = row
        elif row.is_flowq:
            rows[key].add(row)
        else:
            raise ValueError(
                f"two of these runs have {row.contestant} in the same workload {row.measure.workload}"
            )
    whole["rows"] = rows_to_json(rows.values())
    return whole


def by_measure(rows: Iterable[Row]) -> dict[Measure, list[Row]]:
    """The best first."""
    found: dict[Measure, list[Row]] = {}
    for row in rows:
        found.setdefault(row.measure, []).append(row)
    for measure, several in found.items():
        several.sort(key=lambda row: row.median, reverse=measure.more_is_better)
    return found


def tables(report: dict[str, Any]) -> str:
    """All tables of a run, as Markdown."""
    rows = sorted(map(from_json, report["rows"]), key=lambda row: row.measure.workload)
    texts = [_conditions(report)]
    last = ""
    for measure, several in by_measure(rows).items():
        if measure.workload != last:
            last = measure.workload
            texts.append(f"### {WORKLOADS[last]}\n\n[Plot](img/{plot(last)})")
        texts.append(_table(measure, several, report["references"][measure.workload]))
    texts.append(_behind(rows))
    texts += _absent(report)
    texts.append(_configurations(report))
    return "\n\n".join(text for text in texts if text) + "\n"


def plot(workload: str) -> str:
    """The name of its picture."""
    return f"peers-{workload}.svg"


def _behind(rows: Iterable[Row]) -> str:
    """The measures in which a peer's median is better than the best of flowq's."""
    lines = []
    for measure, several in by_measure(rows).items():
        ours = next((at for at, row in enumerate(several) if row.is_flowq), None)
        if not ours:
            continue
        mine = several[ours]
        ahead = ", ".join(f"{row.contestant} {_value(row.median)}" for row in several[:ours])
        lines.append(
            f"- {measure.name}, {measure.unit}: {mine.contestant} {_value(mine.median)}, behind {ahead}"
        )
    return "### Where flowq is behind\n\n" + ("\n".join(lines) or "Nowhere in these tables.")


def _conditions(report: dict[str, Any]) -> str:
    facts = report["machine"]
    lines = [
        (
            f"{facts['cpus']} × {facts['cpu']}, {facts['system']}, Redis {facts['redis']} over TCP on 127.0.0.1, append-only file: "
            f"{facts['persistence']}. A turn itself makes a load of up to 2."
        ),
        "",
    ]
    for one in parts(report):
        loads = one["loads"] or [0.0]
        lines.append(
            f"- {one['machine']['at']}: workloads {', '.join(one['workloads'])}; {one['plan']['rounds']} rounds of about "
            f"{one['plan']['seconds']:g} s, in {one['took_s'] / 60:.0f} min. Load average {one['machine']['load_before']:.2f} before it; "
            f"before the turns: median {percentile(loads, 50):.2f}, highest {max(loads):.2f}."
        )
    if report["quick"]:
        lines.append("- **A trial with tiny numbers (`--quick`): no figure here means anything.**")
    return "\n".join(lines)


def _table(measure: Measure, rows: Sequence[Row], reference: str) -> str:
    facts = sorted({name for row in rows for name in row.facts})
    head = [
        f"{measure.name}, {measure.unit}",
        "median",
        "min – max",
        f"{reference} is × as good (pairs)",
        *facts,
        "note",
    ]
    lines = [_line(head), _line(["---", *["--:"] * (len(head) - 2), "---"])]
    for row in rows:
        name = f"**{row.contestant}**" if row.is_flowq else row.contestant
        values = [_value(row.fact(fact)) for fact in facts]
        spread = f"{_value(min(row.samples))} – {_value(max(row.samples))}"
        lines.append(_line([name, _value(row.median), spread, ratio(row), *values, row.note]))
    return "\n".join(lines)


def ratio(row: Row) -> str:
    """The median of the pairs' ratios, with its 95 % interval, or with smallest and largest and no claim."""
    ratios = row.ratios
    if not ratios:
        return ""
    low, high, enough = interval(ratios)
    what = "95 %:" if enough else "range"
    return f"{percentile(ratios, 50):.2f} ({what} {low:.2f} – {high:.2f}, n {len(ratios)})"


def _value(value: float | None) -> str:
    if value is None:
        return ""
    return "never" if math.isinf(value) else number(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _absent(report: dict[str, Any]) -> list[str]:
    parts = []
    if report["missing"]:
        lines = [f"- **{name}** is not in the tables: {why}" for name, why in report["missing"].items()]
        parts.append("### Missing\n\n" + "\n".join(lines))
    if report["failures"]:
        seen: dict[tuple[str, str, str], int] = {}
        for one in report["failures"]:
            key = (one["workload"], one["contestant"], one["reason"])
            seen[key] = seen.get(key, 0) + 1
        lines = [f"- {who}, workload {what}: {why} (× {n})" for (what, who, why), n in seen.items()]
        parts.append("### Turns without a figure\n\n" + "\n".join(lines))
    return parts


def _configurations(report: dict[str, Any]) -> str:
    lines = ["### Configurations", ""]
    for name, peer in report["peers"].items():
        lines.append(
            f"- **{name}** ({peer['version']}; {', '.join(peer['dependencies']) or 'this repository'}): {'; '.join(peer['docs'])}."
        )
        if peer["note"]:
            lines.append(f"  {peer['note']}")
        for contestant, tried in report["swept"].items():
            if contestant.split(" ")[0] == name and len(tried) > 1:
                shown = "; ".join(f"{_options(one['settings'])}: {number(one['jobs/s'])}" for one in tried)
                lines.append(f"  - sweep, {contestant}, jobs/s: {shown}")
    return "\n".join(lines)


def _options(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def write_json(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def rows_to_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [to_json(row) for row in rows]
