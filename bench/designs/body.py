"""The one body of every design: it writes down its start and its end, and waits in between."""

from __future__ import annotations

import anyio

from bench.marks import mark


async def run(number: int, seconds: float) -> None:
    """A body without any length marks its end only, so that what it costs is the queue's part."""
    if seconds:
        mark("start", number)
        await anyio.sleep(seconds)
    mark("end", number)
