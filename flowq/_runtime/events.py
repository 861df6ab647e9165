"""What a worker says: named events on three loggers, each documented by its name, none of them a flood.

Every record has ``event`` (``"worker.started"``, …) and ``facts`` (a dict) for structured logs. Payloads and secrets are never
logged; texts that came from outside are made printable.
"""

from __future__ import annotations

import logging
from typing import Any

from flowq._clock import Now

WORKER = logging.getLogger("flowq.worker")
LEASE = logging.getLogger("flowq.lease")
JOB = logging.getLogger("flowq.job")

_LOGGERS = {"lease": LEASE, "lease_ttl": LEASE, "job": JOB, "skew": JOB, "body": JOB}
MOST = 10
"""Records of one event within ``WINDOW``; the rest is counted, and the count is told with the next one."""
WINDOW = 10.0
"""Seconds."""
_LONGEST = 500


def printable(text: str) -> str:
    """Outside text on one line: no control characters (log and terminal injection), not long."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


class Events:
    """Says events by their names, at most ``MOST`` of each within ``WINDOW`` seconds. May be called from the keeper's thread."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}
        self.counts: dict[str, int] = {}
        """How often each event happened, said or not."""

    def say(
        self,
        level: int,
        event: str,
        message: str,
        *args: Any,
        error: BaseException | None = None,
        **facts: Any,
    ) -> None:
        """Log an event.

        Args:
            event: its name; the part before the dot chooses the logger.
            message: a format for ``args``, as in ``logging``.
            error: its traceback goes with the record.
            facts: for structured logs.
        """
        self.counts[event] = self.counts.get(event, 0) + 1
        start, said = self._seen.get(event, (0.0, 0))
        now = self._now()
        skipped = max(0, said - MOST)
        if now - start >= WINDOW or not said:
            self._seen[event] = (now, 1)
        else:
            self._seen[event] = (start, said + 1)
            if said >= MOST:
                return
            skipped = 0
        logger = _LOGGERS.get(event.partition(".")[0], WORKER)
        if skipped:
            message += " (%d more of these before)"
            args = (*args, skipped)
        logger.log(level, message, *args, exc_info=error, extra={"event": event, "facts": facts})
