"""``flowq doctor``: is this server fit to keep jobs, and does all that is written in two places agree?"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import msgspec
import typer
from rich.text import Text

from flowq._fleet import MOST_LETTERS
from flowq.backends.redis.fitness import Finding
from flowq.backends.redis.views import Snapshot
from flowq.cli import show
from flowq.cli.exits import Exit
from flowq.cli.target import AsJson, Name, Namespace, Url, the_app


def doctor(name: Name = None, url: Url = None, namespace: Namespace = None, *, json: AsJson = False) -> None:
    """Cross-check an app's keys and its server. Exits 1 if something can lose, strand or repeat jobs. Changes nothing."""
    with the_app(name, url, namespace) as found:
        suspects = found.audit()
        # what a call of a worker in the same moment made look wrong is not wrong a moment later
        findings = [f for f in found.audit() if f in suspects] if suspects else []
        snapshot = found.snapshot()
    findings += of_snapshot(snapshot)
    if json:
        print(msgspec.json.encode({"version": 1, "findings": [attrs.asdict(f) for f in findings]}).decode())
    else:
        _print(findings, snapshot)
    if any(f.level == "fail" for f in findings):
        raise typer.Exit(Exit.FAILED)


def of_snapshot(s: Snapshot) -> Iterator[Finding]:
    """What a look at the fleet says."""
    for t in s.types:
        if t.unserved:
            yield Finding(
                "warn",
                t.name,
                f"{show.count(t.ready + t.orphaned + t.delayed, 'job')} waiting, and no live worker serves this type",
            )
        if t.disagreement and t.override is None:
            yield Finding(
                "warn", t.name, f"live workers declare different limits; the least, {t.limit}, is in force"
            )
        if t.next_due is not None and t.next_due < -5 and t.served_by:
            yield Finding(
                "warn", t.name, f"a delayed job is overdue by {-t.next_due:.0f} s although workers are alive"
            )
    if s.quarantine > 0:
        yield Finding(
            "warn",
            "quarantine",
            f"the server had forgotten: limited types start nothing for {s.quarantine:.1f} s",
        )
    if s.many_letters:
        yield Finding(
            "warn",
            "dead letters",
            f"there are {s.letters} of at most {MOST_LETTERS}: beyond that the oldest are lost; replay or drop some",
        )
    for host, n in _crowded(s):
        yield Finding(
            "warn",
            "workers",
            f"{n} workers on {host} claim one process id: clones of a machine, or containers of one name",
        )


def _crowded(s: Snapshot) -> Iterator[tuple[str, int]]:
    seen: dict[tuple[str, int], int] = {}
    for w in s.workers:
        if w.alive and w.pid:
            seen[w.host, w.pid] = seen.get((w.host, w.pid), 0) + 1
    return ((host, n) for (host, _), n in seen.items() if n > 1)


def _print(findings: list[Finding], s: Snapshot) -> None:
    console = show.console()
    server = s.server
    console.print(
        f"{server.kind} {server.version}, {server.role}, {server.eviction}, persistence {server.persistence}; "
        f"{len(s.types)} types, {sum(w.alive for w in s.workers)} live workers"
    )
    for finding in sorted(findings, key=lambda f: f.level):
        style = "bold red" if finding.level == "fail" else "yellow"
        console.print(
            Text(f"{finding.level:5} ", style=style) + show.plain(f"{finding.topic}: {finding.message}"),
            soft_wrap=True,
        )
    if not findings:
        console.print(Text("ok: all that is written in two places agrees", style="green"))
