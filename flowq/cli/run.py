"""``flowq run`` and ``flowq demo``: starting workers. This process stays their supervisor and imports no code of the app."""

from __future__ import annotations

import enum
import logging
import sys
from contextlib import ExitStack
from typing import Annotated
from urllib.parse import quote

import typer

from flowq._settings import SETTINGS, resolve
from flowq.cli import logs
from flowq.cli.board import RunDir
from flowq.cli.exits import Exit
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


def _help(name: str, text: str = "") -> str:
    """A setting's help: what it is, its default, its variable."""
    row = SETTINGS[name]
    default = (
        ""
        if row.default in (None, False)
        else f" [default: {row.default:g}]"
        if isinstance(row.default, float)
        else (f" [default: {row.default}]")
    )
    return f"{text or row.doc[0].upper() + row.doc[1:]}.{default} [env: {row.variable}]"


def run(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:APP", help="Where the app is, for example shop:app.")
    ],
    *,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help=_help("concurrency"))
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help=_help("threads"))] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-p", min=1, help=_help("processes", "Worker processes"))
    ] = None,
    backend: Annotated[
        Backend | None,
        typer.Option(help=_help("backend", "Event loop; App(backend=…) declares another default")),
    ] = None,
    burst: Annotated[bool | None, typer.Option("--burst", help=_help("burst"))] = None,
    burst_wait: Annotated[float | None, typer.Option(min=0, help=_help("burst_wait"))] = None,
    url: Annotated[str | None, typer.Option("-u", "--url", help=_help("url"))] = None,
    namespace: Annotated[str | None, typer.Option(help=_help("namespace"))] = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="A private server on this machine, its data under ~/.local/share/flowq; --embedded=DIR: there.",
        ),
    ] = False,
    embedded_dir: Annotated[
        str | None, typer.Option(help="The same with a directory.", envvar="FLOWQ_EMBEDDED_DIR")
    ] = None,
    grace: Annotated[float | None, typer.Option(min=0, help=_help("grace"))] = None,
    cancel_grace: Annotated[float | None, typer.Option(min=0, help=_help("cancel_grace"))] = None,
    only: Annotated[str | None, typer.Option(metavar="A,B", help=_help("only"))] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help=_help("exclude"))] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help=_help("log_format"))] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help=_help("log_level"))] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help=_help("health_port", "Port of /livez and /readyz; none by default")
        ),
    ] = None,
) -> None:
    """Run workers of an app until they are told to stop. SIGTERM drains; a second one skips the grace.

    Exit codes: 0 drained · 1 a defect · 2 usage or import · 3 bodies were cut off and handed back · 4 burst with dead letters ·
    69 no server · 70 crash loop · 77 login · 78 configuration.
    """
    with ExitStack() as stack:
        if embedded or embedded_dir:
            if url:
                raise typer.BadParameter("--url or --embedded, not both")
            url = f"embedded://{quote(embedded_dir or '')}"
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
        supervisor = Supervisor(
            settings,
            processes=resolve("processes", argument=processes).value,
            run_dir=stack.enter_context(RunDir()).path,
            health_port=resolve("health_port", argument=health_port).value,
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
