"""What the demo shows while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from flowq.cli.demo_proof import Body

PLAIN_EVERY: Final = 1.0
"""Seconds between two lines where there is no terminal."""


class Screen:
    """Use it as a context manager; ``close`` before the summary."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._told_at = 0.0
        self._told = ""
        self._progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(bar_width=40),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[running]}"),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}
        self.killed: int | None = None
        """Process id of the worker that was killed: its bodies do not run any more."""
        self._live = (
            Live(console=console, refresh_per_second=10, transient=False) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing moves any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str, *, strong: bool = False) -> None:
        """One line that stays."""
        self._console.print(
            f"{time.monotonic() - self._began:5.1f}s  {text}", style="bold red" if strong else "default"
        )

    def show(self, bodies: Sequence[Body], totals: Mapping[str, int]) -> None:
        """Where things stand: jobs done by type, bodies running by process."""
        done = {task: len({b.job for b in bodies if b.task == task and b.end is not None}) for task in totals}
        open_ = [b for b in bodies if b.end is None and b.pid != self.killed]
        running = {task: sum(b.task == task for b in open_) for task in totals}
        if self._live is None:
            self._tell(
                ", ".join(
                    f"{task} {done[task]}/{n} done, {running[task]} running" for task, n in totals.items()
                )
            )
            return
        for task, total in totals.items():
            if task not in self._bars:
                self._bars[task] = self._progress.add_task(task, total=total, running="")
            self._progress.update(self._bars[task], completed=done[task], running=f"{running[task]} running")
        lines = [
            f"  process {pid}  "
            + (
                "killed"
                if pid == self.killed
                else "█" * sum(b.pid == pid and b.task == "example" for b in open_)
            )
            for pid in sorted({b.pid for b in bodies})
        ]
        legend = Text("█ is one example body that runs", style="dim")
        self._live.update(Group(self._progress, Text("\n".join(lines), style="cyan"), legend))

    def _tell(self, line: str) -> None:
        now = time.monotonic()
        if line != self._told and now - self._told_at >= PLAIN_EVERY:
            self._told, self._told_at = line, now
            self.say(line)

    def summary(self, rows: Mapping[str, str], wrong: Sequence[str]) -> None:
        """The end: figures, and the verdict."""
        self._console.print()
        for name, value in rows.items():
            self._console.print(Text(f"  {name:30}", style="dim") + Text(value), soft_wrap=True)
        self._console.print()
        for line in wrong:
            self._console.print(Text(f"  FAILED: {line}", style="bold red"), soft_wrap=True)
        if not wrong:
            self._console.print(
                Text(
                    "  Holds: never more than the limit, never fewer than could run, nothing lost.",
                    style="bold green",
                )
            )
