"""The nouns of the fleet as a whole: how it looks, and how its lease TTL changes. Nothing here is on a job's way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import msgspec

MOST_LETTERS = 100_000
"""Dead letters that an app keeps; beyond, the oldest go. ``finish.lua`` has the same number."""
MANY_LETTERS = MOST_LETTERS * 4 // 5
"""So many are worth a warning."""


def each_once(limits: Iterable[int | None]) -> tuple[int | None, ...]:
    """Limits that several say of one lane, the least first; None: no limit."""
    return tuple(sorted(set(limits), key=lambda limit: (limit is None, limit or 0)))


@attrs.frozen
class LaneSurvey:
    """One lane at a look, whoever serves it."""

    lane: str
    served: bool
    """Some pool that has members serves it."""
    waiting: int
    """Entries of its stream: ready, or in the hands of workers, live or dead."""
    oldest: float | None
    """Seconds since the first of them was put there, if nobody serves the lane; None: somebody does, or there is none."""
    declared: tuple[int | None, ...] = attrs.field(converter=each_once)
    """The limits that the code of live workers declares, each once; None: no limit."""


@attrs.frozen
class Survey:
    """What no reply of the hot path tells: a look at the app as a whole, asked for about once a minute."""

    speaks: bool
    """The caller is the one live member that says what concerns the whole fleet."""
    time: float | None
    """Unix seconds by the server's clock; None: it has none of its own."""
    memory: float | None
    """Percent of the server's limit in use; None: it has no limit."""
    letters: int
    limits: Mapping[str, int]
    """Lane → limit in force; absent: unlimited, 0: nothing starts."""
    override: Mapping[str, int]
    paused: frozenset[str]
    lanes: tuple[LaneSurvey, ...] = ()
    """Every lane of the app, for the member that speaks; for all others none."""
    foreign: frozenset[str] = frozenset()
    """Of the lanes those in whose place somebody else's value lies; they are not in ``lanes``."""


class TtlChange(msgspec.Struct, gc=False, frozen=True):
    """How far a change of the fleet's lease TTL is. All in seconds, or live members."""

    ttl: float
    """The larger one while the change is under way: what the server, and whoever waits for a dead worker, reckons with."""
    to: float
    under_way: bool
    is_open: bool
    """Every live member heeds it: workers with either value may join."""
    live: int
    heeding: int
    configured: int
    """Of the live ones, those that were started with the wanted value."""


def ttl_change(text: str) -> tuple[float, float] | None:
    """The seconds from which and to which the lease TTL is being changed, of a change as it travels: ``<from ms> <to ms> <nonce>``.

    A ``?`` before it is from a worker that was only told to wait for it.
    """
    if not text:
        return None
    before, after, _ = text.removeprefix("?").split(" ", 2)
    return int(before) / 1000, int(after) / 1000
