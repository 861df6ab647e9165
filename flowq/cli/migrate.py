"""``flowq migrate legacy run``, ``verify``, ``rollback``: from the layout of v0.0.4 to streams and timers, and back.

docs/migration/from-legacy.md is the manual.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowq._errors import ConfigurationError
from flowq._settings import resolve
from flowq.backends.redis.admin import open_admin
from flowq.backends.redis.legacy import CHUNK, Layout, Legacy, Meaning, Moved
from flowq.cli import show
from flowq.cli.grid import Grid
from flowq.cli.ledger import Ledger, Line, read
from flowq.cli.target import Namespace, Url, address_of

SAMPLES = 5
"""Of the audit list, shown by ``verify``."""
STORED = ("ready", "delayed")
"""What a ledger says of a task that became a job."""
OTHERS_EVERY = 2.0
"""Seconds between looks for other movers."""


class Score(StrEnum):
    """What the score of the old set means."""

    due = "due"
    priority = "priority"


class Unit(StrEnum):
    """Of a score that is a time."""

    s = "s"
    ms = "ms"


class First(StrEnum):
    """Which priority goes first."""

    high = "high"
    low = "low"


app = typer.Typer(no_args_is_help=True, help="Move jobs here from somewhere else, with a way back.")
legacy = typer.Typer(
    no_args_is_help=True, help="From the layout of v0.0.4: a sorted set of task ids, a hash for each."
)
app.add_typer(legacy, name="legacy")

Name = Annotated[
    str,
    typer.Option("-n", "--name", help="The app's name, as in App(name). (FLOWQ_NAME)", envvar="FLOWQ_NAME"),
]
LedgerFile = Annotated[
    Path, typer.Option("--ledger", help="What becomes of each task, a line each; one file for each mover.")
]
Ledgers = Annotated[list[Path], typer.Option("--ledger", help="The movers' ledgers; may be repeated.")]
Pending = Annotated[str, typer.Option("--pending", help="Key of the sorted set of waiting tasks.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


@contextmanager
def _the_migration(name: str, url: str | None, namespace: str | None) -> Iterator[Legacy]:
    with open_admin(address_of(url, name), name, resolve("namespace", argument=namespace).value) as admin:
        yield admin.legacy()


@legacy.command("run")
def run(
    name: Name,
    score: Annotated[Score, typer.Option(help="What a score means: when the task may start, or its priority. There is no default.")],
    url: Url = None,
    namespace: Namespace = None,
    *,
    unit: Annotated[Unit, typer.Option(help="Of a time: Unix seconds or milliseconds.")] = Unit.s,
    first: Annotated[First, typer.Option(help="Which priority goes first.")] = First.high,
    pending: Pending = "tasks:status:pending",
    task: Annotated[str, typer.Option(help="Key of a task's hash.")] = "task:{id}",
    name_field: Annotated[str, typer.Option(help="Field with the task's name.")] = "name",
    args_field: Annotated[str, typer.Option(help="Field with its positional arguments, a JSON array.")] = "args",
    kwargs_field: Annotated[str, typer.Option(help="Field with its named arguments, a JSON object.")] = "kwargs",
    renames: Annotated[list[str], typer.Option("--map", help="OLD=NEW: another name for a task; may be repeated.")] = [],  # noqa: B006 - typer reads it once
    ledger: LedgerFile = Path("flowq-legacy.jsonl"),
    dry_run: Dry = False,
) -> None:  # fmt: skip
    """Move what waits. Run it again after a crash, or several at once: each task is moved once."""
    meaning: Meaning = ("due s" if unit is Unit.s else "due ms") if score is Score.due else first.value
    layout = Layout(meaning, pending, task, name_field, args_field, kwargs_field, _renames(renames))
    with _the_migration(name, url, namespace) as found:
        if dry_run:
            _tell(list(found.look(layout)), "would be", found.left(pending))
            return
        found.begin(layout)
        _move(found, layout, ledger)
        left = found.left(pending)
    if left:
        raise ConfigurationError(
            f"{left} tasks came into {pending} meanwhile: stop who submits to it, and run this again"
        )


def _renames(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise ConfigurationError(f"--map {pair!r}: OLD=NEW, such as --map send_mail=mail.send")
        found[old] = new
    return found


def _move(found: Legacy, layout: Layout, path: Path) -> None:
    me = f"{socket.gethostname()}:{os.getpid()}"
    moved: list[Moved] = []
    looked = -OTHERS_EVERY
    before: list[str] = []
    columns = (TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Ledger(path) as ledger, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("moving", total=found.left(layout.pending))
        while True:
            chunk, left = found.move(layout)
            if not chunk:
                break
            now = time.time()
            ledger.add(Line(now, one.task_id, one.became, one.job, one.lane) for one in chunk)
            moved += chunk
            progress.update(bar, completed=len(moved), total=len(moved) + left)
            if time.monotonic() - looked > OTHERS_EVERY:
                looked, others = time.monotonic(), found.others(me)
                if others and others != before:
                    progress.console.print(
                        f"{', '.join(others)} moves, too: each task is moved once, and stands in one ledger"
                    )
                before = others
    _tell(moved, "are", 0)
    print(f"ledger: {path}")


def _tell(moved: list[Moved], are: str, waiting: int) -> None:
    by_lane = Counter((one.lane, one.became) for one in moved if one.became != "audit")
    audit = [one for one in moved if one.became == "audit"]
    if by_lane:
        grid = Grid("type", "ready", "delayed", right=("ready", "delayed"))
        for lane in sorted({lane for lane, _ in by_lane}):
            grid.add_row(lane, str(by_lane[lane, "ready"]), str(by_lane[lane, "delayed"]))
        show.console().print(grid)
    count = sum(by_lane.values())
    print(f"{count} tasks {are} moved" + (f", of {waiting} in the set" if waiting else ""))
    if audit:
        print(f"{len(audit)} {are} put into the audit list, because they cannot become jobs:")
        show.some([f"{one.task_id}: {one.job}" for one in audit])


@legacy.command("verify")
def verify(
    name: Name,
    url: Url = None,
    namespace: Namespace = None,
    *,
    pending: Pending = "tasks:status:pending",
    ledger: Ledgers = [Path("flowq-legacy.jsonl")],  # noqa: B006 - typer reads it once
) -> None:
    """See whether the ledgers and the server agree: nothing is left, lost or doubled. Exit code 1 if not."""
    with _the_migration(name, url, namespace) as found:
        on_server = dict(found.moved())
        counts = found.counts(pending, on_server)
        for task_id, reason in islice(found.audited(), SAMPLES):
            print(show.printable(f"audit: {task_id}: {reason}"))
    last: dict[str, Line] = {}
    wrong = []
    for line in sorted((line for path in ledger for line in read(path)), key=lambda line: line.at):
        before = last.get(line.id)
        if before is not None and before.what in STORED and line.what in STORED and before.job != line.job:
            wrong.append(f"{line.id} became two jobs: {before.job} and {line.job}")
        last[line.id] = line
    written = {line.id: line.job for line in last.values() if line.what in STORED}
    wrong += [
        f"{one} stands in a ledger, and the server does not know it"
        for one in written.keys() - on_server.keys()
    ]
    wrong += [
        f"{one} is {on_server[one]} on the server and {job} in a ledger"
        for one, job in written.items()
        if on_server.get(one, job) != job
    ]
    if counts.left:
        wrong.append(f"{counts.left} tasks are left in {pending}: run it again")
    if counts.jobs != counts.moved:
        wrong.append(f"{counts.moved} tasks became {counts.jobs} jobs")
    unwritten = len(on_server.keys() - written.keys())
    print(
        f"moved: {counts.moved} tasks, {counts.jobs} jobs; {counts.outstanding} wait or run, {counts.jobs - counts.outstanding} have ended"
    )
    print(f"left in {pending}: {counts.left}; audit list: {counts.audit}")
    if unwritten:
        print(
            f"{unwritten} stand in none of these ledgers: another mover's, or one that was killed before its line was written"
        )
    for one in wrong[:20]:
        print(show.printable(f"WRONG: {one}"))
    if wrong:
        raise typer.Exit(1)
    print("they agree")


@legacy.command("rollback")
def rollback(
    name: Name,
    url: Url = None,
    namespace: Namespace = None,
    *,
    pending: Pending = "tasks:status:pending",
    ledger: LedgerFile = Path("flowq-legacy.jsonl"),
    dry_run: Dry = False,
) -> None:
    """Give back to the old set what nobody has started. What has begun or ended stays as it is."""
    with _the_migration(name, url, namespace) as found:
        if not found.layout_said():
            raise ConfigurationError(f"no migration of app {name!r} from the old layout has begun here")
        ids = sorted(task_id for task_id, _ in found.moved())
        counted: Counter[str] = Counter()
        with nullcontext() if dry_run else Ledger(ledger) as book:
            for at in range(0, len(ids), CHUNK):
                answers = found.give_back(pending, ids[at : at + CHUNK], dry=dry_run)
                counted.update(answers.values())
                if book is not None:
                    back = (task_id for task_id, what in answers.items() if what == "back")
                    book.add(Line(time.time(), task_id, "back") for task_id in back)
        if not dry_run and not counted["begun"]:
            found.end()
    are = "would go" if dry_run else "are"
    print(
        f"{counted['back']} tasks {are} back in {pending}; {counted['begun']} had begun or ended and stay here"
    )
    if counted["begun"] and not dry_run:
        print(
            "the old workers must not run those again: flowq's workers may go on with them, or `flowq ls TYPE` shows them"
        )
