"""The table of verbs: which word runs which function."""

from __future__ import annotations

from typing import Annotated

import typer

from flowq.cli import config, control, dead, doctor, health, jobs, migrate, run, status, transfer

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
app.command("purge")(control.purge)
app.add_typer(dead.app, name="dead")
app.add_typer(migrate.app, name="migrate")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
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
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _version(asked=value),
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Run and watch task queues."""
    del version
