"""``flowq export`` and ``flowq import``: an app's outstanding jobs as JSON lines, and back, each stored once."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import attrs
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from flowq._errors import ConfigurationError, FlowqError
from flowq._jobfile import VERSION, BadLine, Footer, Header, Incoming, line_of, read_header, read_line, write
from flowq._settings import resolve
from flowq.backends.redis.admin import Admin, open_admin
from flowq.backends.redis.keys import full_name
from flowq.cli import show
from flowq.cli.exits import Exit
from flowq.cli.grid import Grid
from flowq.cli.target import Name, Namespace, Url, address_of, the_app

CHUNK = 200
"""Jobs that are stored at once: some milliseconds of Redis."""
CHUNK_BYTES = 1 << 20


def export(
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A new file. Without it: standard output.")
    ] = None,
    type: Annotated[list[str] | None, typer.Option(help="Only this type; may be repeated.")] = None,  # noqa: A002 -- the option's name
    running: Annotated[
        bool, typer.Option("--running", help="Also jobs in flight; stored elsewhere, they run there, too.")
    ] = False,
) -> None:
    """Write the jobs that have not ended as JSON lines: ready and delayed ones. Nothing changes."""
    with the_app(name, url, namespace) as found:
        for one in type or ():
            found.check_known(one)
        wanted = sorted(set(type)) if type else found.lanes()
        with _made(output) as file:
            counts = _export(found, wanted, file, running=running)
        moving = [t.name for t in found.snapshot().types if t.name in wanted and t.served_by and not t.paused]
    left = 0 if running else counts["running"]
    parts = [f"{counts[state]} {state}" for state in ("ready", "delayed") + (("running",) if running else ())]
    _say(f"{show.count(sum(counts.values()) - left, 'job')} exported: {', '.join(parts)}")
    if left:
        _say(f"{left} in flight are left out: wait until they end, or take them along with --running")
    if moving:
        _say(
            f"workers serve {', '.join(moving)}: jobs that moved meanwhile may be missing, or ended by now. For an exact file "
            f"flowq pause TYPE first, and wait until nothing runs"
        )


def _export(found: Admin, wanted: list[str], file: IO[bytes], *, running: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    file.write(write(Header(VERSION, found.name, found.place(), round(time.time() * 1000), found.namespace)))
    with _progress("exporting", MofNCompleteColumn()) as progress:
        bar = progress.add_task("", total=found.count_outstanding(wanted))
        for job in found.outstanding(wanted):
            counts[job.state] += 1
            if running or job.state != "running":
                file.write(write(line_of(job.id, job.lane, job.state, job.due, job.envelope)))
            progress.advance(bar)
    file.write(write(Footer(sum(counts.values()) - (0 if running else counts["running"]))))
    return counts


@contextmanager
def _made(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that has its name once it is whole and on the disk."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise ConfigurationError(f"{path} is there already: name a new file")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


@attrs.define
class Tally:
    """What became of a file's lines."""

    answers: Counter[str] = attrs.field(factory=Counter[str])
    stored: Counter[tuple[str, str]] = attrs.field(factory=Counter[tuple[str, str]])
    """By type and state."""
    renamed: int = 0
    refused: list[str] = attrs.field(factory=list[str])
    is_whole: bool = False

    def add(self, job: Incoming, answer: str, job_id: str, *, dry: bool) -> None:
        """What the server said of one job."""
        self.answers[answer] += 1
        if answer == "stored":
            self.stored[job.type, job.state] += 1
            # in a dry run only a kept id is known
            self.renamed += job_id != job.id if not dry else not job_id
        elif answer == "taken":
            self.refused.append(
                f"{job.id}: its idempotency key {job.key!r} belongs to {job_id}, which has not ended"
            )


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What flowq export wrote; - is standard input.")
    ],
    name: Annotated[
        str | None,
        typer.Option("-n", "--name", help="The app, if not the one that the file names. (FLOWQ_NAME)"),
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also jobs that were imported before, or come from here, and have ended since."
        ),
    ] = False,
) -> None:
    """Store the jobs of a file, each once, however often it is run."""
    with _opened(file) as (lines, size):
        try:
            header = read_header(next(lines, b""))
        except BadLine as error:
            raise ConfigurationError(f"{file}: {error}") from None
        name = name or os.environ.get("FLOWQ_NAME") or None
        namespace = resolve("namespace", argument=namespace).value or (None if name else header.namespace)
        name = name or header.app
        address = address_of(url, name)
        with open_admin(address, name, namespace) as found:
            if not found.check_writable():
                _say(
                    f"{address.redacted()} has no app {full_name(name, namespace)!r} yet: it begins with these jobs"
                )
            tally = _import(found, header, lines, size, dry=dry_run, again=again)
    _tell(tally, dry=dry_run)
    if tally.refused or not tally.is_whole:
        raise typer.Exit(Exit.FAILED)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """The lines, and how many bytes they are, if that is known."""
    if str(path) == "-":
        yield iter(sys.stdin.buffer), None
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield iter(file), os.fstat(file.fileno()).st_size


def _import(
    found: Admin, header: Header, lines: Iterator[bytes], size: int | None, *, dry: bool, again: bool
) -> Tally:
    tally = Tally()
    with _progress("reading" if dry else "importing", TaskProgressColumn()) as progress:
        bar = progress.add_task("", total=size)
        try:
            for chunk, length in _chunks(lines, tally):
                answers = found.store(header.place, chunk, again=again, dry=dry)
                for job, (answer, job_id) in zip(chunk, answers, strict=True):
                    tally.add(job, answer, job_id, dry=dry)
                progress.advance(bar, length)
        except FlowqError:
            _say(
                f"{tally.answers['stored']} jobs were stored before this; run it again, nothing is stored twice:"
            )
            raise
    return tally


def _chunks(lines: Iterable[bytes], tally: Tally) -> Iterator[tuple[list[Incoming], int]]:
    """Jobs to be stored at once, with the length of their lines; bad lines, and whether the file is whole, go to the tally."""
    chunk: list[Incoming] = []
    length = jobs = 0
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            read = read_line(line)
        except BadLine as error:
            tally.refused.append(f"line {number}: {error}")
            jobs += 1
            continue
        if isinstance(read, Footer):
            tally.is_whole = read.end == jobs
            break
        chunk.append(read)
        jobs += 1
        length += len(line)
        if len(chunk) >= CHUNK or length >= CHUNK_BYTES:
            yield chunk, length
            chunk, length = [], 0
    if chunk:
        yield chunk, length


def _tell(tally: Tally, *, dry: bool) -> None:
    would = "would be " if dry else ""
    if tally.stored:
        grid = Grid("type", "ready", "delayed", "was running", right=("ready", "delayed", "was running"))
        for lane in sorted({lane for lane, _ in tally.stored}):
            grid.add_row(lane, *(str(tally.stored[lane, state]) for state in ("ready", "delayed", "running")))
        show.console().print(grid)
    print(f"{show.count(tally.answers['stored'], 'job')} {would}stored")
    if tally.renamed:
        print(f"{tally.renamed} of them {would}given new ids: theirs belong to other jobs here")
    if before := tally.answers["before"]:
        print(f"{before} skipped: imported before (--again: those that have ended since)")
    if there := tally.answers["there"]:
        print(f"{there} skipped: exported from here, and still outstanding")
    if ended := tally.answers["ended"]:
        print(f"{ended} skipped: exported from here, and ended since (--again stores them)")
    if tally.refused:
        print(f"{len(tally.refused)} refused:")
        show.some(tally.refused)
    if not tally.is_whole:
        print('the file is not whole: its last line, {"end":…}, is missing or counts other jobs.')
        print("Export again, and import that file, too: what is here is not stored twice.")


def _progress(what: str, column: MofNCompleteColumn | TaskProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn(what),
        BarColumn(),
        column,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _say(text: str) -> None:
    """Beside what is written: standard output may be the file."""
    print(text, file=sys.stderr)
