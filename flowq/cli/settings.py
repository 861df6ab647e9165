"""What ``flowq run`` was told, as the supervisor hands it to its worker processes.

It goes through a pipe, not through arguments or the environment: other users of the machine can read those, and the URL may hold
a password. The write end stays open in the supervisor, so the pipe's end of file also says that the supervisor is gone.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from flowq._errors import ConfigurationError
from flowq._settings import SETTINGS, resolve
from flowq.cli.logs import Format


class RunSettings(msgspec.Struct, kw_only=True):
    """The options of ``flowq run``. None: not said on the command line; the app or the environment decides."""

    target: str
    url: str | None = None
    namespace: str | None = None
    backend: str | None = None
    concurrency: int
    threads: int
    burst: bool
    burst_wait: float
    grace: float
    cancel_grace: float
    start_timeout: float
    max_loop_stall: float
    only: list[str] | None
    exclude: list[str] | None
    log_format: Format
    log_level: str
    metrics: str = ""
    """File for the app's figures; empty: nobody asks for them."""
    index: int = 0
    """Which of the supervisor's worker processes this is."""
    supervisor: int = 0
    """Process id of the supervisor."""

    @property
    def patience(self) -> float:
        """Seconds after the order to stop at which whoever still runs is killed."""
        return self.grace + self.cancel_grace + HARD_EXIT


HARD_EXIT = 5.0
"""Seconds beyond grace and cancel_grace after which the supervisor kills what is left, and ends."""

_RESOLVED = (
    "concurrency", "threads", "burst", "burst_wait", "grace", "cancel_grace", "start_timeout", "max_loop_stall", "only", "exclude",
    "log_format", "log_level",
)  # fmt: skip
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def run_settings(
    target: str, *, url: str | None, namespace: str | None, backend: str | None, **said: Any
) -> RunSettings:
    """Put together what was said on the command line and in ``FLOWQ_…``.

    Args:
        said: a value for every other option; None: not said.

    Raises:
        ConfigurationError: a value that cannot be used, and where it comes from.
    """
    values = {name: resolve(name, argument=said.get(name)).value for name in _RESOLVED}
    values["log_level"] = values["log_level"].upper()
    if values["log_level"] not in LEVELS:
        raise ConfigurationError(f"log level {values['log_level']!r}: one of {', '.join(LEVELS)}")
    for name in ("concurrency", "threads"):
        if values[name] < 1:
            raise ConfigurationError(f"--{name} {values[name]}: 1 or more ({SETTINGS[name].doc})")
    return RunSettings(target=target, url=url, namespace=namespace, backend=backend, **values)


def send(settings: RunSettings, fd: int) -> None:
    """Write the settings into a fresh pipe; they fit into its buffer, so this does not wait."""
    os.write(fd, msgspec.json.encode(settings) + b"\n")


def receive(fd: int) -> RunSettings:
    """Read them at the other end.

    Raises:
        EOFError: the supervisor is gone.
    """
    line = b""
    while not line.endswith(b"\n"):
        got = os.read(fd, 65536)
        if not got:
            raise EOFError("the supervisor ended before it said what to run")
        line += got
    return msgspec.json.decode(line, type=RunSettings)
