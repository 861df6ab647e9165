"""``python -m tests.stress``: hurt a fleet, judge it, print a table, write JSON and a picture. ``nox -s stress`` runs this."""

from __future__ import annotations

import enum
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from tests.stress import picture, report
from tests.stress.evidence import gather
from tests.stress.run import Course, Settings, run
from tests.stress.verdict import Verdict, judge


class Backend(enum.StrEnum):
    """The event loops of the workers."""

    trio = "trio"
    asyncio = "asyncio"
    mixed = "mixed"


def main(
    *,
    seconds: Annotated[float, typer.Option(help="Length of the load; start and drain come on top.", min=5)] = 120.0,
    seed: Annotated[int | None, typer.Option(help="Draws the faults; default: a new one, which is printed.")] = None,
    backend: Annotated[Backend, typer.Option(help="Event loop of the workers; mixed: every other one.")] = Backend.mixed,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=4)] = 6,
    supervised: Annotated[int | None, typer.Option(help="How many of them under `flowq run`; default: half.", min=0)] = None,
    ttl: Annotated[float, typer.Option(help="Length of the lease, seconds.", min=1)] = 2.0,
    every: Annotated[float, typer.Option(help="Seconds from one fault to the next.", min=0.2)] = 2.0,
    server: Annotated[Path | None, typer.Option(help="The redis-server program; default: as flowq finds one.")] = None,
    power_loss: Annotated[
        bool, typer.Option("--power-loss", help="Each restart of Redis loses the last writes that it has acknowledged.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where stress.json and stress.svg go.")] = Path("stress-results"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the logs of a good run, too.")] = False,
    promises: Annotated[bool, typer.Option("--promises", help="Fail for broken promises only, not for figures of time.")] = False,
) -> None:  # fmt: skip
    """Real processes, real signals, a real redis-server; an independent witness counts what was lost or ran too often."""
    console = Console(width=None if Console().is_terminal else 120)
    chosen = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="fq-stress-"))
    settings = Settings(
        seconds=seconds, seed=chosen, backend=backend.value, workers=workers,
        supervised=_supervised(workers) if supervised is None else supervised, ttl=ttl, every=every, folder=folder, program=server,
        loses=power_loss,
    )  # fmt: skip
    again = f"nox -s stress -- --seed {chosen} --seconds {seconds:g} --backend {backend.value} --workers {workers} --ttl {ttl:g}"
    if power_loss:
        again += " --power-loss"
    if supervised is not None:
        again += f" --supervised {supervised}"
    console.print(f"seed {chosen}; logs in {folder}; again: {again} --every {every:g}", soft_wrap=True)
    course = trio.run(run, settings)
    evidence = gather(folder, ttl, busy=promises)
    # a server that forgets every ten seconds leaves too little time in which figures would mean something
    verdict = judge(evidence, left=course.left, fast=not (promises or power_loss))
    _tell(console, settings, course, verdict)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "seed": chosen, "seconds": seconds, "backend": backend.value, "workers": workers, "supervised": settings.supervised, "ttl": ttl, "every": every,
        "power_loss": power_loss, "redis": course.server_version, "skipped": course.skipped, "again": again,
    }  # fmt: skip
    report.write_json(out / "stress.json", facts, verdict)
    figures = verdict.figures
    picture.draw(
        out / "stress.svg", evidence,
        f"{workers} workers, {figures['jobs_per_second']:.0f} jobs/s, a fault every {every:g} s: of {figures['jobs']:,} jobs "
        f"{figures['lost']} lost, {figures['double_outcomes']} recorded twice; limits {'held' if _held(verdict) else 'BROKEN'}",
    )  # fmt: skip
    console.print(f"written: {out / 'stress.json'}, {out / 'stress.svg'}")
    if verdict.is_right and not keep:
        shutil.rmtree(folder)
    elif not verdict.is_right:
        console.print(f"[red]Not as promised.[/] Logs: {folder}; again: {again}", soft_wrap=True)
    raise typer.Exit(0 if verdict.is_right else 1)


def _supervised(workers: int) -> int:
    """Half of them, where the end of a process that is not our child can be waited for."""
    return workers // 2 if hasattr(os, "pidfd_open") else 0


def _held(verdict: Verdict) -> bool:
    return all(found["peak"] <= found["limit"] for found in verdict.figures["peaks"].values())


def _tell(console: Console, settings: Settings, course: Course, verdict: Verdict) -> None:
    title = (
        f"{settings.workers} workers on {settings.backend} ({settings.supervised} under flowq run), Redis {course.server_version}, TTL {settings.ttl:g} s, a fault every "
        f"{settings.every:g} s, seed {settings.seed}"
    )
    report.show(console, title, verdict)
    for what in course.skipped:
        console.print(f"skipped: {what}")


if __name__ == "__main__":
    typer.run(main)
