"""``flowq limits``, ``pause``, ``resume``, ``purge``: what may run, changed at run time, in force for the very next start.

``flowq limits --lease-ttl`` is in ``lease_ttl``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from flowq.backends.redis.views import TypeView
from flowq.cli import lease_ttl, show
from flowq.cli.grid import Grid
from flowq.cli.target import AsJson, Name, Namespace, Url, the_app

Type = Annotated[str, typer.Argument(metavar="TYPE", help="A task's name.")]

app = typer.Typer(
    invoke_without_command=True,
    help="Limits: what the code declares, what an operator has set, what is in force.",
)


@app.callback(invoke_without_command=True)
def limits(
    context: typer.Context,
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    json: AsJson = False,
    ttl: Annotated[
        float | None,
        typer.Option(
            "--lease-ttl",
            metavar="SECONDS",
            min=0.001,
            help="Change the lease TTL of the running fleet; then deploy workers with App(lease_ttl=SECONDS). The old value takes it back.",
        ),
    ] = None,
) -> None:
    """List limits, or change them: `flowq limits set TYPE N`, `flowq limits reset TYPE`, `flowq limits --lease-ttl SECONDS`."""
    if context.invoked_subcommand is not None:
        return
    with the_app(name, url, namespace) as found:
        if ttl is not None:
            lease_ttl.change(found, ttl, json=json)
            return
        types = found.snapshot().types
    if json:
        print(msgspec.json.encode([_row(t) for t in types]).decode())
        return
    made = Grid(
        "type", "in force", "set", "declared", "paused", "running", right=("running",), text=("declared",)
    )
    for t in types:
        declared = " / ".join(_said(d) for d in t.declared) or "nobody serves it"
        made.add_row(
            show.plain(t.name),
            _said(t.limit),
            "" if t.override is None else str(t.override),
            declared + (" (they disagree)" if t.disagreement else ""),
            "yes" if t.paused else "",
            str(t.running + t.orphaned),
        )
    show.console().print(made if types else "no type was ever served or submitted to")


def _row(t: TypeView) -> dict[str, object]:
    return {
        "type": t.name, "in_force": t.limit, "override": t.override, "declared": t.declared, "paused": t.paused, "running": t.running,
    }  # fmt: skip


def _said(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


@app.command("set")
def set_limit(
    type: Type,  # noqa: A002 -- the argument's name
    limit: Annotated[
        int, typer.Argument(metavar="N", min=0, help="How many may run at once; 0 starts nothing.")
    ],
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Set a limit over what the code declares, until it is reset; it survives deploys. What runs is not touched."""
    with the_app(name, url, namespace) as found:
        print(_in_force(type, found.set_limit(type, limit), paused=_is_paused(found.snapshot().types, type)))


@app.command("reset")
def reset_limit(
    type: Type,  # noqa: A002 -- the argument's name
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Go back to what the code of the live workers declares."""
    with the_app(name, url, namespace) as found:
        print(_in_force(type, found.set_limit(type, None), paused=_is_paused(found.snapshot().types, type)))


def pause(
    type: Type,  # noqa: A002 -- the argument's name
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Start no more jobs of a type until it is resumed. What runs is not touched, and its limit is kept."""
    with the_app(name, url, namespace) as found:
        found.pause(type, paused=True)
    print(f"{type} is paused; jobs go on being accepted")


def resume(
    type: Type,  # noqa: A002 -- the argument's name
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Undo `pause`."""
    with the_app(name, url, namespace) as found:
        force = found.pause(type, paused=False)
    print(f"{type} is resumed; {_in_force(type, force, paused=False)}")


def purge(
    type: Type,  # noqa: A002 -- the argument's name
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="What those who wait for the jobs learn.")] = "flowq purge",
) -> None:
    """Cancel every job of a type that is ready or delayed. What runs is not touched."""
    with the_app(name, url, namespace) as found:
        row = next((t for t in found.snapshot().types if t.name == type), None)
        if row is not None and not yes:
            more = " at least" if row.delayed_at_least else ""
            typer.confirm(
                f"cancel {row.ready} ready and {row.delayed}{more} delayed jobs of {type}?", abort=True
            )
        dropped = found.purge(type, reason)
        after = next(t for t in found.snapshot().types if t.name == type)
    are = "1 job of {} is" if dropped == 1 else f"{dropped} jobs of {{}} are"
    print(f"{are.format(type)} cancelled and will not start{_left(after)}")


def _left(t: TypeView) -> str:
    """What a purge has not touched."""
    left = [f"{t.running} run on"] if t.running else []
    if t.orphaned:
        left.append(
            f"{t.orphaned} are in the hands of dead workers and start again elsewhere: purge once more then"
        )
    if t.ready or t.delayed:
        left.append(f"{t.ready + t.delayed} came meanwhile: pause {t.name}, or stop who submits them")
    return "".join(f"; {one}" for one in left)


def _is_paused(types: tuple[TypeView, ...], lane: str) -> bool:
    return any(t.name == lane and t.paused for t in types)


def _in_force(lane: str, limit: int | None, *, paused: bool) -> str:
    if paused:
        return f"{lane} is paused: the new limit holds when it is resumed"
    return f"the limit of {lane} in force is {_said(limit)}"
