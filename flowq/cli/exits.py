"""How flowq ends: the exit codes of every command, and which error gives which (docs/cli.md holds the same table for readers)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from flowq._errors import (
    AuthenticationFailed,
    ConfigurationError,
    FlowqError,
    IncompatibleLayout,
    InvalidArguments,
    OutcomeUnknown,
    ReadOnlyServer,
    ServerFull,
    ServerTooOld,
    Unavailable,
)


class Exit(enum.IntEnum):
    """Exit codes. 64 and over are those of BSD's sysexits.h where one fits."""

    OK = 0
    """Done; a worker: drained."""
    FAILED = 1
    """A check did not hold, or a defect (its traceback is in the log)."""
    USAGE = 2
    """A wrong option, or the app cannot be imported."""
    CUT_OFF = 3
    """Drained, but bodies were cut off after the grace; their jobs were handed back and run again elsewhere."""
    BURST_DEAD = 4
    """A burst in which a job ended in the dead letters."""
    UNAVAILABLE = 69
    """The server cannot be reached, or refuses for now."""
    CRASH_LOOP = 70
    """Five worker processes died within a minute."""
    AUTH = 77
    """Wrong user or password, or the ACL forbids a command."""
    CONFIG = 78
    """The settings, the layout of the keys or the server's version cannot work."""


FATAL: Final = frozenset({Exit.USAGE, Exit.AUTH, Exit.CONFIG})
"""Ends of a worker process that a restart would only repeat: the supervisor ends too."""

_WORST_FIRST: Final = (
    Exit.CONFIG, Exit.AUTH, Exit.USAGE, Exit.CRASH_LOOP, Exit.UNAVAILABLE, Exit.FAILED, Exit.CUT_OFF, Exit.BURST_DEAD,
)  # fmt: skip


def exit_of(error: FlowqError) -> Exit:
    """The exit code for an error that ends a command."""
    match error:
        case AuthenticationFailed():
            return Exit.AUTH
        case Unavailable() | OutcomeUnknown() | ServerFull():
            return Exit.UNAVAILABLE
        case ConfigurationError() | IncompatibleLayout() | ServerTooOld() | ReadOnlyServer():
            return Exit.CONFIG
        case InvalidArguments():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def worst(codes: Iterable[int]) -> int:
    """What several worker processes' ends add up to. A code that is none of ours counts as a defect."""
    seen = {code if code in set(Exit) else Exit.FAILED for code in codes}
    return next((code for code in _WORST_FIRST if code in seen), Exit.OK)
