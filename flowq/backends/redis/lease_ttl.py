"""The call that changes a fleet's lease TTL, for the channel of the event loop and for the plain client of the CLI."""

from __future__ import annotations

import secrets
from typing import Any

from flowq._fleet import TtlChange
from flowq.backends.redis.scripts import Args
from flowq.backends.ttl import busy, no_fleet


def arguments(ttl: float) -> Args:
    """Of ``scripts.LEASE_TTL``, for seconds."""
    return [round(ttl * 1000), secrets.token_hex(8)]


def read_reply(reply: list[Any], ttl: float) -> TtlChange:
    """How far the change is. Raises ConfigurationError if there can be none."""
    what = reply[0]
    if what == b"NONE":
        raise no_fleet()
    if what == b"BUSY":
        raise busy(int(reply[1]) / 1000, int(reply[2]) / 1000)
    return TtlChange(
        ttl=int(reply[1]) / 1000,
        to=round(ttl, 3),
        under_way=bool(reply[2]),
        is_open=bool(reply[3]),
        live=int(reply[4]),
        heeding=int(reply[5]),
        configured=int(reply[6]),
    )
