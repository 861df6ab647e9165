"""Tables in terminals of any width, and in pipes."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from flowq.cli import show
from flowq.cli.grid import Grid
from tests.cli.stage import Ran, Stage, policy

ID = "send_email_to_customer:1795546176811-15"


def letters() -> Grid:
    grid = Grid(
        "job", "letter", "died", "n", "reason", right=("n",), text=("reason",), spare=("letter", "died")
    )
    for n in range(3):
        grid.add_row(
            ID, "1795546176811-0", "2026-11-24 18:49:36", str(n), "ValueError: no such address: bad@x.org"
        )
    return grid


def printed(grid: Grid, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(grid)
    return out.getvalue()


@pytest.mark.parametrize("width", range(62, 200, 3))
def test_ids_and_numbers_are_whole_at_any_width(width: int) -> None:
    """No line is longer than the screen, each row's id stands in one piece, and columns are left out in their order."""
    lines = printed(letters(), width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert sum(line.startswith(ID) for line in lines) == 3
    head = lines[0].split()
    assert head in (
        ["job", "letter", "died", "n", "reason"],
        ["job", "died", "n", "reason"],
        ["job", "n", "reason"],
    )
    assert len(head) == 5 or width < 140


def test_a_very_narrow_screen_folds_the_first_column() -> None:
    """Below that nothing fits; still nothing is lost but the spare columns."""
    text = printed(letters(), 40)
    assert all(len(line) <= 40 for line in text.splitlines())
    assert ID in "".join(line.split()[0] for line in text.splitlines()[1:4])


def test_a_pipe_gets_a_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no screen there is no edge, unless ``COLUMNS`` names one."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert show.console().width == show.NO_EDGE
    monkeypatch.setenv("COLUMNS", "90")
    assert show.console().width == 90


def test_status_on_a_small_screen(
    stage: Stage, flowq: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 columns: one line a type, its name whole; what needs a hand stands at the top, where 20 rows still show it."""
    stage.join(send_email_to_customer=policy(), resize=policy(limit=3))
    for lane in ("send_email_to_customer", "nobody_has_this"):
        stage.submit(lane, "x", delay=3600)
        stage.submit(lane, "x")
    monkeypatch.setenv("COLUMNS", "80")

    lines = flowq("status").out.splitlines()

    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith("! nobody_has_this: nobody serves it; its 2 jobs wait")
    (row,) = (line for line in lines if line.startswith("send_email_to_customer"))
    assert row.split()[1] == "1"
    assert "1, in 60m" in row
