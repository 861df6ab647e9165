"""``hard_stop``: a process that is all flowq's ends itself when limited bodies outlive their lease."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from contextlib import asynccontextmanager
from functools import partial

import anyio
import flowq


@asynccontextmanager
async def lifespan():
    await blocks.enqueue()
    yield None


app = flowq.App("stop", "memory://", lease_ttl=1, lifespan=lifespan)


@app.task(limit=1)
async def blocks():
    time.sleep(20)


anyio.run(partial(flowq.run, app, max_loop_stall=0.2, hard_stop=True), backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_process_whose_loop_is_blocked_past_its_lease_ends_itself(tmp_path: Path, backend: str) -> None:
    """Exit code 70, soon after the lease; the last words name the task."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, str(program), backend],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 70, ended.stderr
    assert "blocks" in ended.stderr
    assert time.monotonic() - begin < 10
