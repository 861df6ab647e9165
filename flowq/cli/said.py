"""What a supervisor says of its worker processes: to the log when one has ended, to the probes when they ask. It decides nothing."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from flowq.cli import board
from flowq.cli.children import Child
from flowq.cli.exits import Exit
from flowq.cli.probes import Report

logger = logging.getLogger("flowq.supervisor")

IDLE_POLL: Final = 15.0
"""Seconds without a claim or a question for work after which a worker process does not count as ready."""


def tell_end(child: Child, code: int, *, bodies: int, is_wanted: bool) -> None:
    """Log how a worker process ended, unless it is as it should be.

    Args:
        child: where it was.
        code: its exit code; negative: the signal that killed it.
        bodies: how many were in it.
        is_wanted: it was told to end.
    """
    facts: dict[str, Any] = {"index": child.index, "child": child.pid, "bodies": bodies}
    if code < 0:
        name = signal.Signals(-code).name
        why = child.killed_for or (
            "by somebody else: the kernel's OOM killer?" if code == -signal.SIGKILL else ""
        )
        facts |= {"signal": name, "why": why, "oom": code == -signal.SIGKILL and not child.killed_for}
        logger.error(
            "worker process %d (%d) was killed by %s with %d bodies in it%s",
            child.index,
            child.pid,
            name,
            bodies,
            f": {why}" if why else "",
            extra={"event": "child.killed", "facts": facts},
        )
    elif code != Exit.OK and not (is_wanted and code == Exit.CUT_OFF):
        logger.log(
            logging.WARNING if code in {Exit.BURST_DEAD, Exit.CUT_OFF} else logging.ERROR,
            "worker process %d (%d) ended with exit code %d",
            child.index,
            child.pid,
            code,
            extra={"event": "child.ended", "facts": facts | {"code": code}},
        )


def report(
    children: Sequence[Child],
    running: Collection[int],
    *,
    is_stopping: bool,
    max_loop_stall: float,
    metrics: Callable[[], bytes] | None,
) -> Report:
    """What the probes answer now.

    Args:
        children: the places for worker processes.
        running: process ids of those that have not ended.
        is_stopping: nobody is ready then.
        max_loop_stall: seconds for which an event loop may stand still and count as alive.
        metrics: writes the page for ``/metrics``; None: there is none.
    """
    now = board.clock()
    rows: list[dict[str, Any]] = []
    live = True
    ready = False
    for child in children:
        pulse = child.pulse.read()
        runs = child.process is not None and child.process.pid in running
        stalled = runs and pulse.at > 0 and now - pulse.at > max_loop_stall
        consuming = runs and pulse.consuming and not pulse.draining and now - pulse.polled_at < IDLE_POLL
        live = live and not stalled
        ready = ready or consuming
        rows.append(
            {
                "index": child.index,
                "pid": child.pid if runs else None,
                "pulse_age": round(now - pulse.at, 3) if pulse.at else None,
                "polled_age": round(now - pulse.polled_at, 3) if pulse.polled_at else None,
                "running": pulse.running,
                "consuming": consuming,
            }
        )
    return Report(
        live,
        ready and not is_stopping,
        {"pid": os.getpid(), "draining": is_stopping, "workers": rows},
        metrics,
    )
