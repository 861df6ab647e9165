"""The bodies that every Python peer runs, and what they write down themselves: a queue's own word is no evidence.

Each thread that runs bodies has a file of three float64 (first body, bodies, last body; monotonic seconds), mapped into memory so that
a body costs no system call. Only the standard library is known here: it is imported in the peers' own environments.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import mmap
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = json.loads(os.environ.get("BENCH_SETTINGS", "{}"))
"""The contestant's options, those of its settings, ``url``, ``host`` and ``port``."""

if SETTINGS.get("loop") == "trio":
    import trio

    sleep: Callable[[float], Awaitable[Any]] = trio.sleep
else:
    sleep = asyncio.sleep

_own = threading.local()
_marks = -1


def ran() -> None:
    """One more body has run in this thread."""
    try:
        cells = _own.cells
    except AttributeError:
        cells = _open_tally()
    cells[1] += 1.0
    cells[2] = time.monotonic()


def mark(text: str) -> None:
    """Append the monotonic time, this process's id and ``text`` to a file that all processes share."""
    global _marks  # noqa: PLW0603 - opened once a process, so that a mark costs one write
    if _marks < 0:
        path = Path(os.environ["BENCH_EVIDENCE"]) / "marks"
        _marks = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_marks, f"{time.monotonic():.6f} {os.getpid()} {text}\n".encode())


def _open_tally() -> memoryview[float]:
    name = f"tally-{os.environ['BENCH_WORKER']}-{os.getpid()}-{threading.get_ident()}"
    path = Path(os.environ["BENCH_EVIDENCE"]) / name
    path.write_bytes(bytes(24))
    with path.open("r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 24)).cast("d")
    cells[0] = time.monotonic()
    _own.cells = cells
    return cells


async def noop() -> None:
    """(a), (b), (f)."""
    ran()


async def probe(sent: float) -> None:
    """(d): seconds since ``sent``."""
    mark(f"probe {time.monotonic() - sent:.6f}")


async def hold(number: int, seconds: float) -> None:
    """(g): it has begun."""
    mark(f"hold {number}")
    await sleep(seconds)


async def wait(seconds: float) -> None:
    """(c): it has waited."""
    await sleep(seconds)
    ran()


async def scarce(number: int, seconds: float) -> None:
    """(e): from when to when. The one body that has a limit, where the settings name one."""
    mark(f"begin {number}")
    await sleep(seconds)
    mark(f"end {number}")


def noop_in_thread() -> None:
    ran()


def probe_in_thread(sent: float) -> None:
    mark(f"probe {time.monotonic() - sent:.6f}")


def hold_in_thread(number: int, seconds: float) -> None:
    mark(f"hold {number}")
    time.sleep(seconds)


def wait_in_thread(seconds: float) -> None:
    time.sleep(seconds)
    ran()


BODIES: dict[str, Callable[..., Awaitable[None]]] = {
    "noop": noop, "probe": probe, "hold": hold, "wait": wait, "scarce": scarce,
}  # fmt: skip
"""By name, as an adapter registers them. The order is of no matter."""
BODIES_IN_THREADS: dict[str, Callable[..., None]] = {
    "noop": noop_in_thread, "probe": probe_in_thread, "hold": hold_in_thread, "wait": wait_in_thread,
}  # fmt: skip
"""The same for peers whose bodies are plain functions."""


def registered(
    register: Callable[[str, Any], Any], bodies: Mapping[str, Callable[..., Any]] = BODIES
) -> dict[str, Any]:
    """What ``register(name, body)`` makes of each: the peer's tasks."""
    return {name: register(name, body) for name, body in bodies.items()}


def after_context(body: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """For peers that give each body a context first, of which ours know nothing."""

    @functools.wraps(body)
    async def run(_: dict[str, Any], *args: Any, **named: Any) -> None:
        await body(*args, **named)

    return run


def named(body: str, args: Sequence[Any]) -> dict[str, Any]:
    """The arguments by their names, for peers that store them so."""
    return dict(zip(inspect.signature(BODIES[body]).parameters, args, strict=True))
