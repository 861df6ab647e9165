"""``flowq run`` and ``flowq demo``: starting workers. This process stays their supervisor and imports no code of the app."""

from __future__ import annotations

import enum
import gc
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from flowq._settings import SETTINGS, resolve
from flowq.cli import logs
from flowq.cli.board import RunDir
from flowq.cli.exits import Exit
from flowq.cli.reload import GRACE, Watch
from flowq.cli.settings import run_settings
from flowq.cli.supervisor import Supervisor

logger = logging.getLogger("flowq.supervisor")


class Backend(enum.StrEnum):
    """The event loops."""

    trio = "trio"
    asyncio = "asyncio"


class LogFormat(enum.StrEnum):
    """How log lines are written."""

    text = "text"
    json = "json"


def _option(*names: str, setting: str, text: str = "", **more: Any) -> Any:
    """An option of a setting: its help says what it is, its default and its variable."""
    row = SETTINGS[setting]
    default = (
        ""
        if row.default in {None, False}
        else f"{row.default:g}, "
        if isinstance(row.default, float)
        else f"{row.default}, "
    )
    said = text or row.doc
    return typer.Option(*names, help=f"{said[0].upper()}{said[1:]} ({default}{row.variable}).", **more)


Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the app is, for example shop:app.")]
Concurrency = Annotated[int | None, _option("--concurrency", "-c", setting="concurrency", min=1)]
Threads = Annotated[int | None, _option(setting="threads", min=1)]
Processes = Annotated[
    int | None, _option("--processes", "-p", setting="processes", text="worker processes", min=1)
]
Loop = Annotated[
    Backend | None, _option(setting="backend", text="event loop; App(backend=…) declares another default")
]
Burst = Annotated[bool | None, _option("--burst", setting="burst")]
BurstWait = Annotated[float | None, _option(setting="burst_wait", min=0)]
Server = Annotated[
    str | None,
    _option(
        "-u", "--url", setting="url", text="where Redis is: redis://, rediss://, unix://, embedded://DIR"
    ),
]
Space = Annotated[str | None, _option(setting="namespace")]
Embedded = Annotated[
    bool,
    typer.Option(
        "--embedded",
        help="A private server on this machine, its data under ~/.local/share/flowq; --embedded=DIR: there.",
    ),
]
EmbeddedDir = Annotated[str | None, typer.Option(hidden=True)]
Grace = Annotated[float | None, _option(setting="grace", min=0)]
CancelGrace = Annotated[float | None, _option(setting="cancel_grace", min=0)]
Only = Annotated[str | None, _option(setting="only", metavar="A,B")]
Exclude = Annotated[str | None, _option(setting="exclude", metavar="A,B")]
Style = Annotated[LogFormat | None, _option(setting="log_format")]
Level = Annotated[str | None, _option(setting="log_level", metavar="LEVEL")]
Reload = Annotated[
    bool,
    typer.Option(
        "--reload", help="For development: start anew when a Python file changes (extra reload: watchfiles)."
    ),
]
ReloadDir = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR", help="What --reload watches; may be repeated; by default the directory at hand."
    ),
]
HealthPort = Annotated[
    int | None,
    _option(
        setting="health_port", text="port of /livez, /readyz and /metrics; none by default", min=0, max=65535
    ),
]


def run(
    target: Target,
    *,
    concurrency: Concurrency = None,
    threads: Threads = None,
    processes: Processes = None,
    backend: Loop = None,
    burst: Burst = None,
    burst_wait: BurstWait = None,
    url: Server = None,
    namespace: Space = None,
    embedded: Embedded = False,
    embedded_dir: EmbeddedDir = None,
    grace: Grace = None,
    cancel_grace: CancelGrace = None,
    only: Only = None,
    exclude: Exclude = None,
    log_format: Style = None,
    log_level: Level = None,
    health_port: HealthPort = None,
    reload: Reload = False,
    reload_dir: ReloadDir = None,
) -> None:
    """Run workers of an app until they are told to stop. SIGTERM drains; a second one skips the grace.

    Exit codes: 0 drained · 1 a defect · 2 usage or import · 3 bodies cut off
    4 burst with dead letters · 69 no server · 70 crash loop · 77 login
    78 configuration.
    """
    with ExitStack() as stack:
        if embedded or embedded_dir:
            if url:
                raise typer.BadParameter("--url or --embedded, not both")
            url = f"embedded://{quote(embedded_dir or '')}"
        watch = None
        if reload or reload_dir:
            watch = Watch(reload_dir or [Path.cwd()])
            stack.callback(watch.close)
            if burst:
                raise typer.BadParameter("--burst or --reload, not both")
            if resolve("grace", argument=grace).source == "default":
                grace = GRACE
        settings = run_settings(
            target,
            url=url,
            namespace=namespace,
            backend=backend.value if backend else None,
            concurrency=concurrency,
            threads=threads,
            burst=burst,
            burst_wait=burst_wait,
            grace=grace,
            cancel_grace=cancel_grace,
            only=_names(only),
            exclude=_names(exclude),
            log_format=log_format.value if log_format else None,
            log_level=log_level,
        )
        logs.configure(settings.log_format, settings.log_level)
        # all that is imported lives until the end, which need not wait for the collector to look at it once more
        gc.freeze()
        supervisor = Supervisor(
            settings,
            processes=resolve("processes", argument=processes).value,
            run_dir=stack.enter_context(RunDir()).path,
            health_port=resolve("health_port", argument=health_port).value,
            reload=watch,
        )
        code = supervisor.run()
    raise typer.Exit(code)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def demo(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter bodies: under 20 s.")] = False,
) -> None:
    """Show the main thing at work, without any server: 12 jobs of one type with limit 3 over 4 worker processes, one of them killed."""
    from flowq.cli.demo import play

    raise typer.Exit(Exit.OK if play(quick=quick, stream=sys.stdout) else Exit.FAILED)
