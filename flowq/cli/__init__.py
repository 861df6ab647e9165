"""The command line: ``flowq run``, ``flowq status`` and what an operator needs at night. One file a verb group.

What this room does: parse, call, print, and turn errors into one line and an exit code. What it will not do: anything that a program
could not do over ``flowq`` and ``flowq.backends.redis.admin``. Verbs other than ``run`` and ``demo`` need no code of the app.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flowq._errors import FlowqError
from flowq.cli import config, control, dead, doctor, health, jobs, run, status
from flowq.cli.exits import Exit, exit_of
from flowq.cli.loading import LoadError

app = typer.Typer(
    name="flowq",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A task queue for trio and asyncio on Redis Streams.",
)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("apps")(status.list_apps)
app.command("ls")(jobs.ls)
app.command("show")(jobs.show_job)
app.command("why")(jobs.why)
app.command("cancel")(jobs.cancel)
app.add_typer(control.app, name="limits")
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.add_typer(dead.app, name="dead")
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.command("config")(config.config)
app.command("demo")(run.demo)


def _version(*, asked: bool) -> None:
    if asked:
        import flowq

        print(f"flowq {flowq.__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _version(asked=value), is_eager=True)
    ] = False,
) -> None:
    """Run and watch task queues."""
    del version


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; errors of flowq are one line on standard error."""
    words = [_spelled_out(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        app(args=words, prog_name="flowq", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.FAILED
    except LoadError as error:
        return _told(error, Exit.USAGE)
    except FlowqError as error:
        return _told(error, exit_of(error))
    except BrokenPipeError:
        # `flowq ls … | head`: nobody reads on; and nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return Exit.OK


def _told(error: FlowqError, code: Exit) -> int:
    print(f"flowq: {error}", file=sys.stderr)
    return code


def _spelled_out(word: str) -> str:
    """``--embedded=DIR`` beside ``--embedded``: an option with and without a value is two options for the parser."""
    return word.replace("--embedded=", "--embedded-dir=", 1) if word.startswith("--embedded=") else word
