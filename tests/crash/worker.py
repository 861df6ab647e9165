"""One worker process, as a user's own program runs it: no supervisor. It drains on SIGTERM.

Usage: python -m tests.crash.worker BACKEND [CONCURRENCY].
"""

from __future__ import annotations

import functools
import logging
import sys

import anyio

import flowq
from tests.crash.app import app

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(message)s")
    concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    anyio.run(
        functools.partial(flowq.run, app, concurrency=concurrency, handle_signals=True), backend=sys.argv[1]
    )
