"""The sheet that the timeline picture is drawn on: plain SVG by the standard library."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

import attrs

WIDTH: Final = 1280
LEFT: Final = 92
RIGHT: Final = 16
RED: Final = "#d0021b"
INK: Final = "#24292f"
PALE: Final = "#6e7781"


@attrs.define
class Canvas:
    """An SVG element whose x axis is the time from ``begin`` to ``end``."""

    root: ET.Element
    begin: float
    end: float

    def x(self, at: float) -> float:
        """Where a moment lies; one outside lies on the edge."""
        share = (min(max(at, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def shows(self, start: float, stop: float) -> bool:
        """Something of this span is to be seen."""
        return stop >= self.begin and start <= self.end

    def add(self, tag: str, text: str = "", **facts: object) -> ET.Element:
        """An element; ``stroke_width=2`` becomes ``stroke-width="2"``."""
        element = ET.SubElement(
            self.root, tag, {key.replace("_", "-"): str(value) for key, value in facts.items()}
        )
        element.text = text or None
        return element

    def write(
        self, x: float, y: float, text: str, *, size: int = 11, fill: str = INK, halo: bool = False, **facts: object
    ) -> None:  # fmt: skip
        """A line of text; with a ``halo`` it can be read over bodies."""
        place = {"x": round(x, 1), "y": round(y, 1), "font_size": size, **facts}
        if halo:
            self.add(
                "text", text, fill="#ffffff", stroke="#ffffff", stroke_width=3, stroke_opacity=0.85, **place
            )
        self.add("text", text, fill=fill, **place)

    def cross(self, x: float, y: float) -> None:
        """The mark of a death."""
        self.add("path", d=f"M{x - 5:g} {y - 5:g}l10 10m0 -10l-10 10", stroke=RED, stroke_width=2.6)
