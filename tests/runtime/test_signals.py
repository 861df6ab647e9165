"""Signals, in processes of their own: Ctrl-C under a plain ``trio.run(flowq.run, app)``, and the worker that handles them itself."""

from __future__ import annotations

import signal
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
from flowq.backends.memory import MemoryServer, open_memory

backend, kind, handle = sys.argv[1], sys.argv[2], sys.argv[3] == "handle"


@asynccontextmanager
async def lifespan():
    await body.enqueue()
    yield None
    print("lifespan closed", flush=True)


server = MemoryServer()


class App(flowq.App):
    def opener(self):
        return partial(open_memory, server)


app = App("signals", "memory://", lifespan=lifespan)


@app.task(retries=0, max_crashes=1)
async def body():
    print("started", flush=True)
    if kind == "cpu":
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pass
    await anyio.sleep(0.5 if kind == "short" else 20)
    print("body finished", flush=True)


try:
    anyio.run(partial(flowq.run, app, handle_signals=handle, grace=5), backend=backend)
finally:
    print("dead letters", len(server.dead_letters), flush=True)
    print("handed back", server.snapshot()["body"].pending.get("-", 0), flush=True)
"""


def run(tmp_path: Path, *arguments: str, signals: list[signal.Signals]) -> tuple[int, str, float]:
    """Run the program, send it signals once its body has started. Returns exit code, output and the seconds from the first one."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(0.1)
            begin = time.monotonic()
            for number in signals:
                process.send_signal(number)
                time.sleep(0.3)
            out, err = process.communicate(timeout=15)
            return process.returncode, out + err, time.monotonic() - begin
        finally:
            process.kill()


def test_ctrl_c_in_a_computing_body_drains_the_worker(tmp_path: Path) -> None:
    """trio raises KeyboardInterrupt inside whatever computes: the job goes back uncounted, the worker drains and ends with it."""
    code, out, seconds = run(tmp_path, "trio", "cpu", "plain", signals=[signal.SIGINT])
    assert code in (130, -signal.SIGINT)
    assert "lifespan closed" in out
    assert "dead letters 0" in out
    assert "handed back 1" in out
    assert "KeyboardInterrupt" in out
    assert "ExceptionGroup" not in out
    assert seconds < 5


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_beside_a_waiting_body_is_prompt(tmp_path: Path, backend: str) -> None:
    """The loop's own way of telling it cancels the scope around ``run``: prompt, and everything is handed back."""
    code, out, seconds = run(tmp_path, backend, "long", "plain", signals=[signal.SIGINT])
    assert code in (130, -signal.SIGINT)
    assert "handed back 1" in out
    assert "dead letters 0" in out
    assert "ExceptionGroup" not in out
    assert seconds < 4


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_handle_signals_one_drains(tmp_path: Path, backend: str, number: signal.Signals) -> None:
    """The body finishes within its grace, and the program ends normally."""
    code, out, _ = run(tmp_path, backend, "short", "handle", signals=[number])
    assert code == 0, out
    assert "body finished" in out
    assert "handed back 0" in out


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_with_handle_signals_a_second_one_skips_the_grace(tmp_path: Path, backend: str) -> None:
    """Bodies are cancelled at once and handed back."""
    code, out, seconds = run(tmp_path, backend, "long", "handle", signals=[signal.SIGTERM, signal.SIGTERM])
    assert code == 0, out
    assert "handed back 1" in out
    assert seconds < 4
