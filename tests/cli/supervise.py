"""Runs a Supervisor over a stand-in for the worker process; started by the tests as a process of its own.

``python -m tests.cli.supervise OPTIONS``, OPTIONS being JSON: what the worker does (``do``), and the supervisor's arguments. Its exit code
is the supervisor's; its log goes to standard error, one JSON object a line.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from flowq.cli import logs, settings, supervisor
from flowq.cli.board import RunDir
from flowq.cli.settings import run_settings

PR_SET_CHILD_SUBREAPER = 36


def main(options: dict[str, Any]) -> int:
    settings.HARD_EXIT = options.get("hard_exit", 5.0)
    supervisor.TICK = options.get("tick", supervisor.TICK)
    if options.get("subreaper"):
        # what process 1 of a container is by nature: orphans end up here
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if options.get("without"):
        # as if that package were not installed
        sys.modules[options["without"]] = None  # type: ignore[assignment]  # the import system's own way to say so
    told = run_settings(
        options["do"],
        url=None,
        namespace=None,
        backend=None,
        burst=options.get("burst", False),
        grace=options.get("grace", 5.0),
        cancel_grace=options.get("cancel_grace", 0.0),
        log_format="json",
    )
    logs.configure("json", "INFO")
    with RunDir() as run_dir:
        made = supervisor.Supervisor(
            told,
            processes=options.get("processes", 1),
            run_dir=run_dir.path,
            health_port=options.get("health_port"),
            command=(sys.executable, "-m", "tests.cli.stand_in", options["witness"]),
        )
        sys.stdout.write(json.dumps({"port": made.probes.port, "run_dir": str(run_dir.path)}) + "\n")
        sys.stdout.flush()
        return made.run()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
