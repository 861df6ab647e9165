"""A full memory as a producer meets it: each refused submit raises, and now and then the log says it, too."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from flowq._errors import ServerFull

logger = logging.getLogger("flowq.redis")

QUIET: Final = 60.0
"""Seconds for which it is not said again."""


class Refusals:
    """Of one client. ``noticed`` goes around each submit."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._said_at: float | None = None

    @contextmanager
    def noticed(self) -> Generator[None]:
        try:
            yield
        except ServerFull as error:
            now = time.monotonic()
            if self._said_at is None or now - self._said_at >= QUIET:
                self._said_at = now
                logger.error(
                    "jobs are refused: %s",
                    error,
                    extra={"event": "redis.full", "server": self._where, "reason": str(error)},
                )
            raise
