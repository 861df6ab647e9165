"""How things are written for people: durations, counts, ids, one console."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

PREVIEW = 60
"""Characters of a job's arguments in a list."""


NO_EDGE = 10_000
"""Characters a line of what is no terminal may have: ``grep`` and ``cut`` want a row to be a line. ``COLUMNS`` says otherwise."""


def console() -> Console:
    """Standard output; without colour if it is no terminal or NO_COLOR is set."""
    made = Console(highlight=False)
    return made if made.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=NO_EDGE)


def count(n: int, one: str, many: str = "") -> str:
    """``1 job``, ``2 jobs``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """Text from elsewhere: no control characters, so that no job can write to the terminal as it likes."""
    return "".join(char if char.isprintable() else " " for char in text)


def some(rows: Sequence[str], most: int = 5) -> None:
    """Print the first of them, as text from elsewhere, and how many more there are."""
    for row in rows[:most]:
        print(f"  {printable(row)}")
    if len(rows) > most:
        print(f"  and {len(rows) - most} more")


def plain(text: str, style: str = "") -> Text:
    """A cell whose text is taken as it is: no markup."""
    return Text(printable(text), style=style)


def seconds(value: float | None) -> str:
    """A duration, as short as it can be read."""
    if value is None:
        return "-"
    sign, value = ("-" if value < 0 else ""), abs(value)
    if value < 10:
        return f"{sign}{value:.1f}s"
    if value < 120:
        return f"{sign}{value:.0f}s"
    if value < 7200:
        return f"{sign}{value / 60:.0f}m"
    return f"{sign}{value / 3600:.0f}h" if value < 172_800 else f"{sign}{value / 86_400:.0f}d"


def rate(per_second: float) -> str:
    """A rate in the unit in which it is a number to be read."""
    if per_second == 0:
        return "-"
    return f"{per_second:.1f}/s" if per_second >= 0.1 else f"{per_second * 60:.1f}/m"


def moment(unix: float) -> str:
    """A moment in local time."""
    return f"{datetime.datetime.fromtimestamp(unix, datetime.UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def arguments(envelope: Mapping[str, Any] | None, *, length: int = PREVIEW) -> str:
    """A job's arguments as in a call, cut to ``length``."""
    args, kwargs = (
        (envelope.get("args", []), envelope.get("kwargs", {})) if envelope is not None else (None, None)
    )
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        return "(cannot be read)"
    parts = [_json(value) for value in args]
    parts += [f"{name}={_json(value)}" for name, value in kwargs.items()]
    text = printable(f"({', '.join(parts)})")
    return text if len(text) <= length else text[: length - 1] + "…"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
