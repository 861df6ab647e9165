"""The timeline picture: bodies by worker, with what was done to them. Plain SVG. Imports nothing of flowq."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.stress.canvas import INK, LEFT, PALE, RED, RIGHT, WIDTH, Canvas
from tests.stress.logbook import Run
from tests.stress.verdict import span
from tests.stress.witness import Evidence, counted_spans

LANE: Final = 2.6
"""Height of a body of a limited type; of another one half."""
LANES: Final = 22
"""Bodies above each other that a worker's row has room for; more lie over them."""
FREE_LANES: Final = 8
STRIP: Final = 26
"""Height of a type's strip at the top."""
SECONDS: Final = 30.0
"""What the picture shows of a longer run: the part in which the most kinds of things happen."""
COLOURS: Final[tuple[str, ...]] = ("#2a6fbb", "#d9822b", "#7a52a8", "#2f9e77", "#b8458b", "#8a6d3b")
FREE: Final = "#b4bcc6"


def draw(path: Path, evidence: Evidence, title: str) -> None:
    """Write the picture of a run."""
    begin, end = window(evidence)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "system-ui, sans-serif"})
    canvas = Canvas(root, begin, end)
    back = canvas.add("rect", width="100%", height="100%", rx=6, fill="#ffffff")
    colours = dict(zip(evidence.limits, COLOURS, strict=False))
    _legend(canvas, title, colours, evidence)
    top = 78.0
    bands = ET.SubElement(root, "g")
    y = _strips(canvas, evidence, colours, top)
    y = _workers(canvas, evidence, colours, y + 14)
    _server(Canvas(bands, begin, end), evidence, top, y)
    _axis(canvas, y)
    height = math.ceil(y + 34)
    root.set("viewBox", f"0 0 {WIDTH} {height}")
    back.set("height", str(height))
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="unicode")


def window(evidence: Evidence) -> tuple[float, float]:
    """The part of the load's time to show."""
    begin, end = span(evidence)
    if end - begin <= SECONDS:
        return begin, max(end, begin + 1.0)
    faults = [
        event
        for event in evidence.events
        if event.kind not in {"birth", "death", "supervisor", "begin", "end"}
    ]

    def worth(start: float) -> tuple[int, int]:
        inside = [event for event in faults if start <= event.at and event.until <= start + SECONDS - 3]
        return len({(event.kind, event.how.partition(" (")[0]) for event in inside}), len(inside)

    starts = [begin + step for step in range(int(end - begin - SECONDS) + 1)]
    best = max(starts, key=worth)
    return best, best + SECONDS


def _legend(canvas: Canvas, title: str, colours: dict[str, str], evidence: Evidence) -> None:
    canvas.write(16, 24, title, size=15, font_weight="600")
    x = 16.0
    for task, colour in [*colours.items(), ("no limit", FREE)]:
        canvas.add("rect", x=x, y=36, width=12, height=8, fill=colour, rx=2)
        text = f"{task} ≤ {evidence.limits[task]}" if task in evidence.limits else task
        canvas.write(x + 17, 44, text)
        x += 32 + 6.4 * len(text)
    for mark, text in (
        ("kill", "killed"), ("stop", "SIGSTOP … SIGCONT"), ("link", "its line is bad"), ("term", "drains"), ("server", "Redis is down"),
        ("forgot", "limited types wait for a lease"),
    ):  # fmt: skip
        _sample(canvas, mark, x)
        canvas.write(x + 17, 44, text, fill=PALE)
        x += 32 + 6.2 * len(text)


def _sample(canvas: Canvas, mark: str, x: float) -> None:
    if mark == "kill":
        canvas.cross(x + 6, 40)
    elif mark == "term":
        canvas.add("path", d=f"M{x + 2} 36v8l8 -4z", fill=INK)
    else:
        style = {
            "stop": {"fill": "#ffe08a", "stroke": "#c99a00"},
            "link": {"fill": "#fde3d3", "stroke": "#d9822b"},
            "server": {"fill": "#f5b5bd"},
            "forgot": {"fill": "#fbe9eb"},
        }[mark]
        canvas.add("rect", x=x, y=36, width=12, height=8, **style)


def _strips(canvas: Canvas, evidence: Evidence, colours: dict[str, str], top: float) -> float:
    """For each limited type: how many bodies run, against the limit."""
    y = top
    for task, limit in evidence.limits.items():
        base = y + STRIP
        unit = (STRIP - 5) / limit
        path = [f"M{canvas.x(canvas.begin)} {base}"]
        for at, count in _counts(counted_spans(evidence, task)):
            if canvas.begin <= at <= canvas.end:
                path.append(f"H{canvas.x(at)}V{round(base - count * unit, 1)}")
        path.append(f"H{canvas.x(canvas.end)}V{base}Z")
        canvas.add("path", d="".join(path), fill=colours[task], fill_opacity=0.75)
        at_limit = round(base - limit * unit, 1)
        canvas.add(
            "path",
            d=f"M{LEFT} {at_limit}H{WIDTH - RIGHT}",
            stroke=RED,
            stroke_width=0.8,
            stroke_dasharray="4 3",
        )
        canvas.write(LEFT - 8, base - 8, f"{task} ≤ {limit}", text_anchor="end")
        y = base + 4
    return y


def _counts(spans: Iterable[tuple[float, float]]) -> Iterable[tuple[float, int]]:
    edges = sorted(edge for start, end in spans for edge in ((start, 1), (end, -1)))
    running = 0
    for at, step in edges:
        running += step
        yield at, running


def _workers(canvas: Canvas, evidence: Evidence, colours: dict[str, str], top: float) -> float:
    """A row for each place in the fleet, in it the bodies of its worker, and of the next one after its death."""
    births = {event.pid: event for event in evidence.events if event.kind == "birth"}
    deaths = evidence.deaths()
    by_slot: dict[int, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        if canvas.shows(run.start, run.end or deaths.get(run.pid, math.inf)):
            by_slot[births[run.pid].slot].append(run)
    y = top
    for slot in sorted({birth.slot for birth in births.values()}):
        limited = _pack([run for run in by_slot[slot] if run.task in colours], deaths)
        free = _pack([run for run in by_slot[slot] if run.task not in colours], deaths)
        depth = min(LANES, max(8, _depth(limited)))
        height = LANE * (depth + FREE_LANES / 2) + 8
        _faults(canvas, evidence, slot, y, height)
        for colour, runs in _by_colour(limited, colours).items():
            _bodies(canvas, runs, deaths, colour, y + 3, LANE, depth)
        _bodies(canvas, free, deaths, FREE, y + 5 + LANE * depth, LANE / 2, FREE_LANES)
        _marks(canvas, evidence, slot, y, height)
        loops = {birth.how for birth in births.values() if birth.slot == slot}
        canvas.write(LEFT - 8, y + height / 2, f"worker {slot + 1}", text_anchor="end")
        canvas.write(LEFT - 8, y + height / 2 + 12, ", ".join(loops), size=9, fill=PALE, text_anchor="end")
        y += height + 6
    return y


def _bodies(
    canvas: Canvas, runs: list[tuple[Run, int]], deaths: dict[int, float], colour: str, y: float, lane: float, lanes: int
) -> None:  # fmt: skip
    path = []
    for run, place in runs:
        start, end = canvas.x(run.start), canvas.x(run.end or deaths.get(run.pid, math.inf))
        path.append(f"M{start:g} {y + lane * (place % lanes + 0.5):.1f}h{max(end - start, 0.8):.1f}")
    if path:
        canvas.add("path", d="".join(path), stroke=colour, stroke_width=round(lane * 0.8, 2), fill="none")


def _pack(runs: list[Run], deaths: dict[int, float]) -> list[tuple[Run, int]]:
    """Give each run the first lane that is free."""
    free_at: list[float] = []
    found = []
    for run in sorted(runs, key=lambda run: run.start):
        lane = next((i for i, at in enumerate(free_at) if at <= run.start), len(free_at))
        if lane == len(free_at):
            free_at.append(0.0)
        free_at[lane] = run.end or deaths.get(run.pid, math.inf)
        found.append((run, lane))
    return found


def _depth(packed: list[tuple[Run, int]]) -> int:
    return max((lane + 1 for _, lane in packed), default=0)


def _by_colour(packed: list[tuple[Run, int]], colours: dict[str, str]) -> dict[str, list[tuple[Run, int]]]:
    found: dict[str, list[tuple[Run, int]]] = defaultdict(list)
    for run, lane in packed:
        found[colours.get(run.task, FREE)].append((run, lane))
    return found


def _faults(canvas: Canvas, evidence: Evidence, slot: int, y: float, height: float) -> None:
    """What is wrong with a worker for a while, behind its bodies."""
    canvas.add(
        "rect", x=LEFT, y=y, width=WIDTH - LEFT - RIGHT, height=height, fill="#f6f8fa", fill_opacity=0.6
    )
    for event in evidence.events:
        if event.slot == slot and event.kind in {"stop", "link"} and canvas.shows(event.at, event.until):
            fill, stroke = ("#ffe08a", "#c99a00") if event.kind == "stop" else ("#fde3d3", "#d9822b")
            box = canvas.add(
                "rect", x=canvas.x(event.at), y=y, width=max(2.0, round(canvas.x(event.until) - canvas.x(event.at), 1)),
                height=height, fill=fill, stroke=stroke, stroke_width=0.8,
            )  # fmt: skip
            ET.SubElement(box, "title").text = f"{event.kind}: {event.how}"


def _marks(canvas: Canvas, evidence: Evidence, slot: int, y: float, height: float) -> None:
    """Ends and new beginnings of a worker, before its bodies."""
    kills = {event.pid: event for event in evidence.events if event.kind == "kill"}
    for event in evidence.events:
        if event.slot != slot or not canvas.begin <= event.at <= canvas.end:
            continue
        x = canvas.x(event.at)
        if event.kind == "death" and event.code == -9:
            how = "by its supervisor" if "lease ended" in event.how else "poison"
            if event.pid in kills:
                how = f"SIGKILL {kills[event.pid].how}"
            canvas.add("path", d=f"M{x} {y}v{height}", stroke=RED, stroke_width=1.6)
            canvas.cross(x, y + height / 2)
            canvas.write(x + 9, y + height / 2 + 4, how, size=10, fill=RED, halo=True)
        elif event.kind == "term":
            canvas.add("path", d=f"M{x} {y + height / 2 - 5}v10l10 -5z", fill=INK)
            canvas.write(x + 13, y + height / 2 + 4, "SIGTERM", size=10, halo=True)
        elif event.kind in {"stop", "link"}:
            text = "SIGSTOP" if event.kind == "stop" else event.how
            canvas.write(x + 3, y + height - 3, text, size=10, fill="#7a4b00", halo=True)


def _server(canvas: Canvas, evidence: Evidence, top: float, bottom: float) -> None:
    """What reaches everybody: bands over the whole height."""
    taken = [-math.inf, -math.inf]
    for event in sorted(evidence.events, key=lambda event: event.at):
        if event.kind not in {"server", "pause", "storm", "clock"} or not canvas.shows(
            event.at, event.until + evidence.ttl
        ):
            continue
        x, until = canvas.x(event.at), canvas.x(event.until)
        if event.kind == "server":
            later = canvas.x(event.until + evidence.ttl)
            _band(canvas, until, later, top, bottom, "#fbe9eb")
        if event.kind == "clock":
            path = f"M{x} {top}V{bottom}"
            canvas.add("path", d=path, stroke="#7a52a8", stroke_width=1.2, stroke_dasharray="2 3")
        else:
            _band(
                canvas,
                x,
                max(until, x + 1.5),
                top,
                bottom,
                "#f5b5bd" if event.kind == "server" else "#e3d9f2",
            )
        name = {"server": "redis-server killed", "pause": "CLIENT PAUSE", "storm": "CLIENT KILL storm"}
        text = name.get(event.kind, f"server clock {event.how}")
        at = min(x, WIDTH - RIGHT - 6.0 * len(text))
        line = 0 if taken[0] < at else 1
        taken[line] = at + 6.0 * len(text)
        canvas.write(at, top - 4 - 11 * line, text, size=10, fill=PALE)


def _band(canvas: Canvas, left: float, right: float, top: float, bottom: float, fill: str) -> None:
    if right > left:
        canvas.add(
            "rect", x=left, y=top, width=round(right - left, 1), height=round(bottom - top, 1), fill=fill
        )


def _axis(canvas: Canvas, y: float) -> None:
    step = 5 if canvas.end - canvas.begin > 12 else 1
    at = 0
    while canvas.begin + at <= canvas.end + 1e-6:
        x = canvas.x(canvas.begin + at)
        canvas.add("path", d=f"M{x} {y}v5", stroke=PALE)
        canvas.write(x, y + 18, f"{at} s", fill=PALE, text_anchor="middle")
        at += step
