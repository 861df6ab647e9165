"""``flowq dead``: the dead letters. Look at them, send them back to work, throw them away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, get_args

import msgspec
import typer
from rich.text import Text

from flowq._errors import FailureKind
from flowq.backends.redis.admin import Admin
from flowq.backends.redis.letters import Head, Replayed
from flowq.backends.redis.views import LetterView, as_json
from flowq.cli import show
from flowq.cli.exits import Exit
from flowq.cli.grid import Grid
from flowq.cli.target import AsJson, Name, Namespace, Url, the_app

app = typer.Typer(
    no_args_is_help=True, help="The dead letters: jobs that ended without success, with the reason."
)


def _known_kind(kind: str | None) -> str | None:
    kinds = get_args(FailureKind)
    if kind is not None and kind not in kinds:
        raise typer.BadParameter(f"{kind!r} is no kind of failure; there are {', '.join(kinds)}")
    return kind


Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Job ids, or ids of letters as `dead ls` shows them."),
]
Type = Annotated[str | None, typer.Option("--type", "-t", help="Only letters of this type.")]
Kind = Annotated[
    str | None,
    typer.Option(callback=_known_kind, help=f"Only of this kind: {', '.join(get_args(FailureKind))}."),
]
All = Annotated[bool, typer.Option("--all", help="Every letter (that --type and --kind leave).")]


@app.command("ls")
def ls(
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    type: Type = None,  # noqa: A002 -- the option's name
    kind: Kind = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    with the_app(name, url, namespace) as found:
        heads = list(islice(_matching(found, type, kind), limit + 1))
        letters = [letter for h in heads[:limit] if (letter := found.letter(h.letter)) is not None]
        if not letters:
            _check_type(found, type)
    if json:
        print(msgspec.json.encode([msgspec.Raw(as_json(letter)) for letter in letters]).decode())
        return
    made = Grid("job", "letter", "died", "kind", "reason", text=("reason",), spare=("letter", "died"))
    for letter in letters:
        made.add_row(
            show.plain(letter.job),
            letter.letter,
            show.moment(letter.at),
            letter.kind,
            show.plain(_first_line(letter.reason)),
        )
    console = show.console()
    console.print(made if letters else "no dead letters")
    if len(heads) > limit:
        console.print(Text(f"there are more; --limit {limit * 10}", style="dim"))


@app.command("show")
def show_letter(
    which: Annotated[str, typer.Argument(metavar="ID", help="A job id, or the id of a letter.")],
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    json: AsJson = False,
) -> None:
    """Show one dead letter whole: arguments, reason, traceback."""
    with the_app(name, url, namespace) as found:
        letter = found.letter(which)
    if letter is None:
        typer.echo(f"flowq: {_gone(which)}", err=True)
        raise typer.Exit(Exit.FAILED)
    if json:
        print(as_json(letter).decode())
    else:
        print_letter(letter)


def print_letter(letter: LetterView, *, status: str | None = None) -> None:
    """A dead letter for people; with the job's ``status``, where that was asked for."""
    console = show.console()
    from flowq.backends.redis.lookup import envelope_of

    rows = {
        "job": letter.job,
        **({} if status is None else {"status": status}),
        "letter": letter.letter,
        "died": show.moment(letter.at),
        "kind": letter.kind,
        "reason": letter.reason,
        "arguments": show.arguments(envelope_of(letter.raw), length=2000),
    }
    rows |= {k: str(v) for k, v in letter.detail.items() if k != "traceback"}
    if envelope_of(letter.raw) is None:
        rows["entry"] = repr(letter.raw[:500])
    for key, value in rows.items():
        console.print(Text(f"{key:10} ", style="dim") + show.plain(value), soft_wrap=True)
    if trace := letter.detail.get("traceback"):
        console.print(
            Text("\n" + "\n".join(show.printable(line) for line in str(trace).splitlines())), soft_wrap=True
        )
    console.print(Text(f"\nto run it again: flowq dead replay {letter.job}", style="dim"))


@app.command("replay")
def replay(
    which: Which = None,
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    type: Type = None,  # noqa: A002 -- the option's name
    kind: Kind = None,
    everything: All = False,
) -> None:
    """Send dead jobs back to work, each as a new job with all its attempts, and remove their letters: both or neither."""
    replayed = missed = 0
    with the_app(name, url, namespace) as found:
        for one in _chosen(found, which, type, kind, everything=everything):
            letter = found.letter(one)
            done = found.replay(letter) if letter is not None else Replayed(None, _gone(one))
            job = one if letter is None else letter.job
            if done.job is None:
                missed += 1
                typer.echo(f"{job}: not replayed: {done.why}", err=True)
            else:
                replayed += 1
                print(f"{job} -> {done.job}")
    if not replayed and not missed:
        print("no dead letters")
    if missed:
        raise typer.Exit(Exit.FAILED)


@app.command("drop")
def drop(
    which: Which = None,
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    type: Type = None,  # noqa: A002 -- the option's name
    kind: Kind = None,
    everything: All = False,
) -> None:
    """Throw dead letters away for good."""
    dropped = missed = 0
    with the_app(name, url, namespace) as found:
        for one in _chosen(found, which, type, kind, everything=everything):
            letter = found.letter(one) if which else None
            if which and letter is None:
                missed += 1
                typer.echo(f"{one}: not dropped: {_gone(one)}", err=True)
            else:
                dropped += found.drop(one if letter is None else letter.letter)
    print(f"{show.count(dropped, 'dead letter')} dropped")
    if missed:
        raise typer.Exit(Exit.FAILED)


def _matching(found: Admin, lane: str | None, kind: str | None) -> Iterator[Head]:
    return (h for h in found.letters() if lane in (None, h.lane) and kind in (None, h.kind))


def _chosen(
    found: Admin, which: list[str] | None, lane: str | None, kind: str | None, *, everything: bool
) -> list[str]:
    """The ids of the letters meant. Those of a whole type go oldest first, as they came."""
    if which:
        return which
    if not everything and lane is None and kind is None:
        raise typer.BadParameter("say which: ids, --type, --kind, or --all")
    ids = [head.letter for head in reversed(list(_matching(found, lane, kind)))]
    if not ids:
        _check_type(found, lane)
    return ids


def _check_type(found: Admin, lane: str | None) -> None:
    """Where nothing was found: it may be for a slip of the pen."""
    if lane is not None:
        found.check_known(lane)


def _gone(which: str) -> str:
    return f"there is no dead letter {which!r}: replayed or dropped already, or expired (30 days, newest 100,000)"


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 100 else line[:99] + "…"
