"""The portable half of "workers die with their supervisor": the pipe's end of file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest


@pytest.mark.crash
def test_end_of_file_kills() -> None:
    """Where the kernel tells nobody of a parent's death, the closed pipe ends the process, even while its main thread sleeps."""
    read, write = os.pipe()
    code = f"import time; from flowq.cli.lifeline import watch_pipe; watch_pipe({read}); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=(read,), stdout=subprocess.PIPE) as child:
        os.close(read)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"

        os.close(write)

        assert child.wait(10) == -signal.SIGKILL


@pytest.mark.crash
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the pipe does it")
def test_a_supervisor_that_died_before_is_noticed() -> None:
    """A process whose supervisor died before it could ask for the signal sees another parent, and does not begin."""
    code = "from flowq.cli.lifeline import end_with_supervisor; end_with_supervisor(1234567, -1)"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert "EOFError: the supervisor has ended" in ran.stderr
