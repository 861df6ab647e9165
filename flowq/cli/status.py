"""``flowq status`` and ``flowq apps``: what is there, read from the keys alone."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq._fleet import MOST_LETTERS
from flowq.backends.redis import admin
from flowq.backends.redis.keys import full_name
from flowq.backends.redis.views import VIEW_VERSION, Snapshot, TtlView, TypeView, as_json
from flowq.cli import show
from flowq.cli.checks import parse_check
from flowq.cli.exits import Exit
from flowq.cli.grid import Grid
from flowq.cli.target import AsJson, Name, Namespace, Url, address_of, the_app

WATCH_EVERY: Final = 1.0
"""Seconds."""


def status(
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second.")] = False,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 1 unless it holds, for example 'oldest_waiting<60', 'resize.ready<=1000', 'workers>=2'; may be repeated."
        ),
    ] = None,
) -> None:
    """Types and workers of an app: what waits, what runs, who runs it. Needs no code of the app."""
    checks = [parse_check(text) for text in check or ()]
    with the_app(name, url, namespace) as found:
        if watch:
            _watch(found, json=json)
        snapshot = found.snapshot()
        if json:
            print(as_line(snapshot))
        elif not checks:
            show.console().print(render(snapshot))
        failed = [c for c in checks if not c.holds(snapshot)]
        for one in checks:
            value = one.value(snapshot)
            if not json:
                print(
                    f"{'FAILED' if one in failed else 'ok':6} {one.text}   (is {'none' if value is None else f'{value:g}'})"
                )
    if failed:
        raise typer.Exit(Exit.FAILED)


def _watch(found: admin.Admin, *, json: bool) -> None:
    try:
        if json:
            while True:
                print(as_line(found.snapshot()), flush=True)
                time.sleep(WATCH_EVERY)
        console = show.console()
        while not console.is_terminal:
            console.print(render(found.snapshot()), Text())
            time.sleep(WATCH_EVERY)
        with Live(render(found.snapshot()), console=console, auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(WATCH_EVERY)
                live.update(render(found.snapshot()), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def as_line(snapshot: Snapshot) -> str:
    """The snapshot as one line of versioned JSON."""
    return msgspec.json.encode({"version": VIEW_VERSION, "app": msgspec.Raw(as_json(snapshot))}).decode()


def list_apps(url: Url = None, *, json: AsJson = False) -> None:
    """Every app that has keys on a server."""
    address = address_of(url)
    rows = admin.apps(address)
    if json:
        print(msgspec.json.encode([msgspec.Raw(as_json(row)) for row in rows]).decode())
        return
    made = Grid("app", "namespace", "workers", "types", right=("workers", "types"))
    for row in rows:
        made.add_row(row.name, row.namespace or "", str(row.workers), str(row.types))
    show.console().print(made if rows else f"{address} has no app of flowq yet")


# --- for people ---------------------------------------------------------------------------------------------------------


def render(snapshot: Snapshot) -> RenderableType:
    """The whole page; what needs a hand comes first, since a small screen cuts the end."""
    return Group(_head(snapshot), *_notes(snapshot), Text(), _types(snapshot), Text(), _workers(snapshot))


def _head(s: Snapshot) -> Text:
    server = s.server
    memory = f"{server.used_memory / 1e6:.0f} MB"
    if server.memory_percent is not None:
        memory += f" ({server.memory_percent} % of maxmemory)"
    ttl = "no worker has ever joined" if s.lease_ttl is None else f"lease {s.lease_ttl:g}s"
    if s.lease_ttl_change is not None:
        ttl = f"lease {s.lease_ttl_change.before:g}s -> {s.lease_ttl_change.to:g}s"
    if s.epoch_age is not None:
        ttl += f", stable {show.seconds(s.epoch_age)}"
    facts = [f"{server.kind} {server.version}", memory, f"persistence {server.persistence}"]
    if server.eviction != "noeviction":
        facts.append(server.eviction)
    text = Text(full_name(s.name, s.namespace), style="bold")
    text.append(f"   {', '.join(facts)}   {ttl}", style="default")
    if s.quarantine > 0:
        text.append(
            f"\nquarantine: the server forgot, limited types start nothing for {s.quarantine:.1f}s",
            style="bold yellow",
        )
    return text


def _types(s: Snapshot) -> RenderableType:
    # trouble that most fleets never have takes no room in most of their tables
    trouble = {
        "crashes/h": {t.name: t.crashes_per_hour for t in s.types},
        "skew": {t.name: t.recent.get("skewed", 0) for t in s.types},
    }
    shown = {name: counts for name, counts in trouble.items() if any(counts.values())}
    columns = ("type", "ready", "oldest", "runs", "limit", "delayed", "dead", "done", "failed", *shown, "by")
    right = ("ready", "oldest", "runs", "delayed", "dead", "done", "failed", *shown)
    made = Grid(*columns, right=right, text=("by",), spare=("by",))
    hosts = {w.member: f"{w.host}:{w.pid}" for w in s.workers}
    for t in s.types:
        by = ", ".join(f"{hosts.get(m, m[:8])}×{n}" for m, n in t.running_by.items())
        if t.orphaned:
            by += f"{', ' if by else ''}dead×{t.orphaned}"
        made.add_row(
            show.plain(t.name, "bold"),
            str(t.ready),
            show.seconds(t.oldest_waiting),
            str(t.running),
            _limit(t),
            _delayed(t),
            Text(f"{t.dead}{'+' if t.dead_at_least else ''}", style="red" if t.dead else ""),
            show.rate(t.per_second("succeeded")),
            show.rate(t.per_second("dead") + t.per_second("retried")),
            *(Text(str(n), style="yellow") if (n := counts[t.name]) else "" for counts in shown.values()),
            show.plain(by),
        )
    return made if s.types else Text("no type was ever served or submitted to")


def _delayed(t: TypeView) -> str:
    if t.next_due is None:
        return "0"
    due = f"in {show.seconds(t.next_due)}" if t.next_due >= 0 else f"{show.seconds(-t.next_due)} late"
    return f"{t.delayed}{'+' if t.delayed_at_least else ''}, {due}"


def _limit(t: TypeView) -> Text:
    says = "∞" if t.limit is None else str(t.limit)
    if t.paused:
        kept = t.override if t.override is not None else next(iter(t.declared), None)
        return Text(f"paused ({'∞' if kept is None else kept})", style="yellow")
    if t.override is not None:
        declared = "/".join("∞" if d is None else str(d) for d in t.declared) or "?"
        return Text(f"{says} (set; code: {declared})")
    if t.disagreement:
        return Text(
            f"{says} (code: {'/'.join('∞' if d is None else str(d) for d in t.declared)})", style="yellow"
        )
    return Text(says)


def _workers(s: Snapshot) -> RenderableType:
    if not s.workers:
        return Text("no workers", style="yellow")
    made = Grid(
        *("worker", "host", "pid", "version", "loop", "lease", "up", "runs", "of", "serves"),
        right=("pid", "lease", "up", "runs", "of"),
        text=("serves",),
        spare=("loop", "version", "serves"),
    )
    for w in s.workers:
        served = ", ".join(w.lanes[:6]) + (f" and {len(w.lanes) - 6} more" if len(w.lanes) > 6 else "")
        made.add_row(
            w.member[:8],
            show.plain(w.host),
            str(w.pid),
            show.plain(w.version),
            show.plain(w.backend),
            Text("ended", style="red")
            if not w.alive
            else show.seconds(w.lease_left) + (", drains" if w.draining else ""),
            show.seconds(w.age),
            str(w.running),
            str(w.concurrency),
            show.plain(served),
        )
    return made


def _change(change: TtlView, alive: int) -> str:
    if not change.is_open:
        return f"lease_ttl is being changed to {change.to:g} s: not every live worker has acknowledged it"
    if change.workers == alive and alive:
        return f"lease_ttl is being changed to {change.to:g} s: all live workers were started with it; it is complete {change.to:g} s after it was asked for"
    return (
        f"lease_ttl is being changed to {change.to:g} s: {change.workers} of {alive} live workers were started with it; until all were, "
        f"they reckon with {min(change.before, change.to):g} s"
    )


def _waiting(n: int) -> str:
    return "its job waits" if n == 1 else f"its {n} jobs wait"


def _notes(s: Snapshot) -> list[Text]:
    notes: list[str] = []
    if s.lease_ttl_change is not None:
        notes.append(_change(s.lease_ttl_change, sum(w.alive for w in s.workers)))
    for t in s.types:
        if t.unserved:
            notes.append(
                f"{t.name}: nobody serves it; {_waiting(t.ready + t.orphaned + t.delayed)} for a worker that has its code"
            )
        if t.disagreement and not t.paused and t.override is None:
            notes.append(f"{t.name}: live workers declare different limits; the least holds")
        if t.recent.get("skewed"):
            notes.append(
                f"{t.name}: {show.count(t.recent['skewed'], 'time')} in the last minutes a job did not fit its worker's version of "
                "the code"
            )
        if t.next_due is not None and t.next_due < -5 and t.served_by:
            notes.append(
                f"{t.name}: a delayed job is overdue by {show.seconds(-t.next_due)}: no worker is calling Redis"
            )
        if t.longest and t.longest.seconds > 3600:
            notes.append(
                f"{t.name}: {t.name}:{t.longest.job} has been running for {show.seconds(t.longest.seconds)}"
            )
    if s.server.eviction != "noeviction":
        notes.append(f"maxmemory-policy is {s.server.eviction}: Redis may delete jobs; set noeviction")
    if not s.server.aof:
        notes.append("Redis writes no append-only file: a crash of it loses jobs")
    if s.server.memory_percent is not None and s.server.memory_percent >= 80:
        notes.append(f"Redis memory is {s.server.memory_percent} % full; at 100 % producers are refused")
    if s.many_letters:
        notes.append(f"{s.letters} dead letters of at most {MOST_LETTERS}: beyond that the oldest are lost")
    if s.workers and not any(w.alive for w in s.workers):
        notes.append("no worker is alive; the lease clock only moves when somebody calls")
    return [show.plain(f"! {note}", "yellow") for note in notes]
