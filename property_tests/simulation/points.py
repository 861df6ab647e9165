"""Every place in flowq's runtime where a task may wait: read from its text, and compared with where simulations did wait."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .gate import ROOT, RUNTIME, Point


@cache
def all_points() -> dict[Point, str]:
    """The lines with ``await``, ``async with`` or ``async for`` of ``flowq/_runtime``, each with its text."""
    found: dict[Point, str] = {}
    for path in sorted(Path(RUNTIME).glob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor):
                found[str(path)[len(ROOT) :], node.lineno] = lines[node.lineno - 1].strip()
    return found


def unreached(reached: Iterable[Point]) -> dict[Point, str]:
    """Those of ``all_points`` where nobody waited."""
    seen = set(reached)
    return {point: text for point, text in all_points().items() if point not in seen}
