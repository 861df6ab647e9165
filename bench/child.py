"""A measurement in a process of its own: ``python -m bench.child MODULE:FUNCTION BACKEND ARGUMENTS`` prints what it returned.

Each sample comes from a fresh process, so that no run finds another one's memory, warm or cluttered.
"""

from __future__ import annotations

import cProfile
import importlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio


def measured(
    function: Callable[..., Awaitable[Any]], backend: str, *, timeout: float = 600.0, **arguments: Any
) -> Any:
    """Run an async function in a fresh process and return what it returned, through JSON.

    Args:
        function: importable by its name.
        backend: its event loop.
        timeout: seconds after which the process is killed.
        arguments: of the function.
    """
    words = [
        sys.executable,
        "-m",
        "bench.child",
        f"{function.__module__}:{function.__qualname__}",
        backend,
        json.dumps(arguments),
    ]
    done = subprocess.run(
        words, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[3]} on {backend} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def profiled(path: str) -> Iterator[None]:
    """Write cProfile's statistics of the block into a file, which makes everything slower; '' does nothing."""
    if not path:
        yield
        return
    with cProfile.Profile() as profiler:
        yield
    profiler.dump_stats(path)


def main(target: str, backend: str, arguments: str) -> None:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    print(json.dumps(anyio.run(partial(function, **json.loads(arguments)), backend=backend)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
