"""Rows under named columns, for terminals of any width.

An id that is broken over two lines cannot be copied, and a number that is cut is another number. So what does not fit is left out
by whole columns, those that matter least first; only text is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

ENOUGH: Final = 20
"""Characters in which text can be read, folded."""


class Grid:
    """Like rich's ``Table``, which makes it in the end.

    Args:
        columns: their names; under the first one stands what a row is about.
        right: those that hold numbers.
        text: those that may be folded.
        spare: those that are left out where there is no room, in this order. What they hold must be had elsewhere, too.
    """

    def __init__(
        self, *columns: str, right: Sequence[str] = (), text: Sequence[str] = (), spare: Sequence[str] = ()
    ) -> None:
        self._columns = columns
        self._right = right
        self._text = text
        self._spare = spare
        self._rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """One cell for each column."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        shown = list(self._columns)
        for spare in (None, *self._spare):
            shown = [name for name in shown if name != spare]
            for gap in (2, 1):
                if self._least(shown, gap) <= options.max_width:
                    yield self._table(shown, gap)
                    return
        yield self._table(shown, 1, fold_first=True)

    def _cells(self, name: str) -> list[str | Text]:
        at = self._columns.index(name)
        return [row[at] for row in self._rows]

    def _least(self, shown: Sequence[str], gap: int) -> int:
        """Characters below which something would break that must not."""
        widths = 0
        for name in shown:
            widest = max((cell_len(str(cell)) for cell in self._cells(name)), default=0)
            widths += max(len(name), min(widest, ENOUGH) if name in self._text else widest)
        return widths + gap * (len(shown) - 1)

    def _table(self, shown: Sequence[str], gap: int, *, fold_first: bool = False) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
        for i, name in enumerate(shown):
            made.add_column(
                name,
                justify="right" if name in self._right else "left",
                overflow="fold",
                no_wrap=name not in self._text and not (fold_first and i == 0),
                min_width=len(name),
            )
        for row in zip(*(self._cells(name) for name in shown), strict=True):
            made.add_row(*row)
        return made
