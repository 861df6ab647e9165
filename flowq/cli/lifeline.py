"""A worker process must not outlive its supervisor: nobody would kill it if it overran its lease."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_supervisor(supervisor: int, fd: int) -> None:
    """Have the kernel kill this process when its supervisor dies; where there is no such thing, watch the pipe.

    Called in the main thread: on Linux the signal comes when the *thread* that started this process ends, which is the
    supervisor's main thread.

    Raises:
        EOFError: it is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            raise EOFError("the supervisor has ended")
    else:
        watch_pipe(fd)


def watch_pipe(fd: int) -> None:
    """Kill this process at the pipe's end of file, from a thread: the portable half of ``end_with_supervisor``."""

    def watch() -> None:
        while os.read(fd, 1024):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="flowq lifeline", daemon=True).start()
