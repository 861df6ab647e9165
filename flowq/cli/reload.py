"""``flowq run --reload``: which Python files changed, seen by the well-kept ``watchfiles`` (extra ``reload``). For development."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flowq._errors import ConfigurationError

GRACE: Final = 1.0
"""Seconds that bodies get before a reload, unless ``--grace`` says otherwise."""
DEBOUNCE_MS: Final = 200
"""For which further changes are awaited: editors and checkouts write more than one file."""


class Watch:
    """Watches directories from a thread of its own; the supervisor asks ``changed`` in its loop.

    Args:
        directories: with all below them; hidden ones, ``__pycache__``, ``node_modules`` and virtual environments are left out.

    Raises:
        ConfigurationError: the extra is not installed, or there is no such directory.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        try:
            import watchfiles
        except ImportError:
            raise ConfigurationError("--reload needs watchfiles: pip install 'trio-flowq[reload]'") from None
        for directory in directories:
            if not directory.is_dir():
                raise ConfigurationError(f"--reload-dir {directory}: there is no such directory")
        self._files: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        changes = watchfiles.watch(
            *directories,
            watch_filter=watchfiles.PythonFilter(),
            debounce=DEBOUNCE_MS,
            stop_event=self._end,
            rust_timeout=500,
            raise_interrupt=False,
        )

        def watch() -> None:
            for found in changes:
                with self._lock:
                    self._files += sorted({path for _, path in found})

        threading.Thread(target=watch, name="flowq reload", daemon=True).start()

    def changed(self) -> list[str]:
        """The files that changed since the last call."""
        with self._lock:
            found, self._files = self._files, []
        return found

    def close(self) -> None:
        """End the thread, soon."""
        self._end.set()
