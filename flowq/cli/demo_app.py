"""The app of ``flowq demo``: two tasks that work on files of this machine, and write down when each body begins and ends.

The intervals go to files that flowq itself never reads: they are the witness from which the demo proves what it claims.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sysconfig
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import anyio

from flowq._app import App
from flowq._context import current_job

LIMIT = 3
LEASE_TTL = 2.0
"""Seconds: short, so that recovery after a kill is quick to watch. The default is 10."""
WITNESS = "FLOWQ_DEMO_WITNESS"
"""Environment variable: the directory of the interval files."""
PARTS = 12

app = App("demo", lease_ttl=LEASE_TTL)


@contextmanager
def witnessed() -> Iterator[None]:
    """Append when this body begins, and when it ends in order, to a file of this process'."""
    job = current_job()
    path = Path(os.environ[WITNESS], f"{os.getpid()}.jsonl")
    body = {"task": job.task, "job": job.id, "pid": os.getpid(), "fence": job.fence}
    with path.open("a", buffering=1) as file:
        file.write(json.dumps({**body, "start": time.monotonic()}) + "\n")
        yield
        file.write(json.dumps({**body, "end": time.monotonic()}) + "\n")


@app.task(limit=LIMIT, timeout=60)
async def example(part: int, seconds: float) -> tuple[int, int]:
    """Compress one twelfth of the standard library's files, spread over ``seconds``. Returns bytes before and after."""
    with witnessed():
        began = anyio.current_time()
        files = sorted(glob.glob(f"{sysconfig.get_path('stdlib')}/*.py"))[part::PARTS]  # noqa: PTH207 -- as quick as it gets
        before = after = 0
        for n, name in enumerate(files):
            data = await anyio.Path(name).read_bytes()
            before += len(data)
            after += len(zlib.compress(data))
            await anyio.sleep(max(0.0, began + seconds * (n + 1) / len(files) - anyio.current_time()))
        return before, after


@app.task
async def email(number: int, seconds: float) -> str:
    """Write a message and wait as long as a mail server would. Returns the message's hash."""
    with witnessed():
        message = EmailMessage()
        message["Subject"] = f"Number {number}"
        message.set_content("Compressed.\n" * 100)
        await anyio.sleep(seconds)
        return hashlib.sha256(message.as_bytes()).hexdigest()
