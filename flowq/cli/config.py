"""``flowq config``: every setting, its value here, and where it comes from."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from flowq._settings import SETTINGS, resolve
from flowq.backends.kafka.url import parse_kafka_url
from flowq.backends.redis.url import parse_url
from flowq.cli import show
from flowq.cli.grid import Grid
from flowq.cli.loading import load_app
from flowq.cli.target import AsJson


def config(
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", help="Also what this app's code says.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Print every setting: its value, whether code, environment or default says so, its variable. Passwords are not shown."""
    app = load_app(target) if target else None
    rows: list[dict[str, object]] = []
    for name, row in SETTINGS.items():
        found = app.setting(name) if app is not None else resolve(name)
        value = _redacted(name, found.value) if name in ("url", "broker") and found.value else found.value
        rows.append(
            {
                "setting": name,
                "value": value,
                "source": found.source,
                "variable": row.variable,
                "meaning": row.doc,
            }
        )
    if json:
        print(msgspec.json.encode(rows).decode())
        return
    made = Grid(
        "setting",
        "value",
        "from",
        "variable",
        "meaning",
        text=("value", "meaning"),
        spare=("variable", "meaning"),
    )
    for shown in rows:
        value = shown["value"]
        made.add_row(
            *(
                show.plain("-" if cell is None else str(cell))
                for cell in (shown["setting"], value, *list(shown.values())[2:])
            )
        )
    show.console().print(made)


def _redacted(name: str, url: str) -> str:
    if name == "broker":
        return str(parse_kafka_url(url))
    scheme = url.partition("://")[0]
    return url if scheme in {"embedded", "memory"} else parse_url(url).redacted()
