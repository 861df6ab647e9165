"""From a run's folder of logs to the evidence. Imports nothing of flowq: ``python -m tests.stress.evidence FOLDER TTL`` judges
logs that lie there, on a machine that has no flowq.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.stress import aof, logbook
from tests.stress.load import BLOCKING, DEADLY, LIMITS
from tests.stress.witness import AWAKE, Evidence


def gather(folder: Path, ttl: float, *, busy: bool = False) -> Evidence:
    """Read everything.

    Args:
        busy: the machine had something else to do, and may have kept a worker waiting for up to a lease and a half.
    """
    return Evidence(
        jobs=logbook.jobs(folder / "jobs.log"), runs=logbook.bodies(folder / "bodies.log"),
        outcomes=aof.outcomes(folder / "redis"), events=logbook.events(folder / "events.jsonl"),
        limits=LIMITS, ttl=ttl, deadly=DEADLY, blocking=BLOCKING,
        cut=aof.submitted(folder / "redis"), awake=1.5 * ttl if busy else AWAKE, busy=busy,
    )  # fmt: skip


if __name__ == "__main__":
    from rich.console import Console

    from tests.stress.report import show
    from tests.stress.verdict import judge

    show(Console(width=120), sys.argv[1], judge(gather(Path(sys.argv[1]), float(sys.argv[2])), left=[]))
