"""``flowq limits --lease-ttl``: change the lease TTL of a running fleet, and tell how far that is."""

from __future__ import annotations

import time
from typing import Final

import msgspec
import typer

from flowq._fleet import TtlChange
from flowq.backends.redis.admin import Admin
from flowq.cli.exits import Exit

LOOK_EVERY: Final = 0.1
"""Seconds."""


def patience(ttl: float) -> float:
    """Seconds to wait for the acknowledgements: a worker's second renewal brings it, after TTL/4 at most."""
    return 2.0 + ttl / 4


def change(found: Admin, ttl: float, *, json: bool) -> None:
    """Begin the change or take one back, and wait for the live workers to acknowledge it.

    Raises:
        typer.Exit: code 1, somebody has not.
    """
    state = found.change_ttl(ttl)
    end = time.monotonic() + patience(state.ttl)
    while state.under_way and not state.is_open and state.live and time.monotonic() < end:
        time.sleep(LOOK_EVERY)
        state = found.change_ttl(ttl)
    print(msgspec.json.encode(state).decode() if json else said(state))
    if state.under_way and not state.is_open and state.live:
        raise typer.Exit(Exit.FAILED)


def said(state: TtlChange) -> str:
    """The state in words."""
    if not state.under_way:
        return f"lease_ttl is {state.to:g} s"
    workers = f"{state.live} live worker{'' if state.live == 1 else 's'}"
    if not state.live:
        return f"lease_ttl will be {state.to:g} s when the first worker with it has joined; no worker is live"
    if not state.is_open:
        return (
            f"lease_ttl is being changed to {state.to:g} s: acknowledged by {state.heeding} of {workers}; one that does not answer holds "
            f"it up until its lease ends; run this again to see"
        )
    if state.configured == state.live:
        return (
            f"lease_ttl is being changed to {state.to:g} s: all of {workers} have it; it is complete {state.to:g} s after this was first "
            f"asked for"
        )
    return (
        f"lease_ttl is being changed to {state.to:g} s: acknowledged by all; start workers with lease_ttl={state.to:g} now, it is "
        f"complete when the last one without has ended ({state.configured} of {workers} have it)"
    )
