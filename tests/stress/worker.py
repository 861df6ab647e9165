"""One worker process, as a user's own program runs it: no supervisor. Usage: python -m tests.stress.worker BACKEND CONCURRENCY."""

from __future__ import annotations

import functools
import logging
import sys

import anyio

import flowq
from tests.stress.app import app

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    run = functools.partial(
        flowq.run, app, concurrency=int(sys.argv[2]), handle_signals=True, start_timeout=60
    )
    anyio.run(run, backend=sys.argv[1])
