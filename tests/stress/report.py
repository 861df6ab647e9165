"""What a run says: a table on the terminal, a JSON file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.stress.verdict import Verdict

SHOWN = 12
"""Lines of evidence per broken promise on the terminal; the JSON has all."""


def show(console: Console, title: str, verdict: Verdict) -> None:
    """Print the table, and the evidence against what is wrong."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(justify="right")
    for row in verdict.rows:
        table.add_row(row.question, row.answer, "[green]ok[/]" if row.is_right else "[red]WRONG[/]")
    console.print(table)
    for row in verdict.rows:
        if not row.is_right:
            console.print(f"[red]{row.question}: {row.answer}[/]")
            for line in row.details[:SHOWN]:
                console.print(f"  {line}", highlight=False, soft_wrap=True)
            if len(row.details) > SHOWN:
                console.print(f"  … and {len(row.details) - SHOWN} more")


def write_json(path: Path, facts: dict[str, Any], verdict: Verdict) -> None:
    """All of it, for programs."""
    data = {
        "right": verdict.is_right,
        "run": facts,
        "figures": verdict.figures,
        "rows": [
            {"question": row.question, "answer": row.answer, "right": row.is_right, "details": row.details}
            for row in verdict.rows
        ],
    }
    path.write_text(json.dumps(_plain(data), indent=2) + "\n")


def _plain(value: Any) -> Any:
    """JSON knows no nan."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
