"""Which faults a run does, and when: drawn from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import attrs

SERVER_APART: Final = 8.0
POWER_LOSS_APART: Final = 5.0
"""Leases from one restart of the server to the next; below 5, limited types could not recover in between."""
CALM: Final = 2.5
"""Leases around a body that blocks its loop for longer than its lease, in which no other fault may cost its worker the lease: that
it holds a loop, which cannot cancel what runs on it, is a documented end of the limit's promise.
"""


@attrs.frozen
class Fault:
    """One fault to do. ``seconds`` is how long it lasts, where that is a question."""

    at: float
    kind: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} ({self.seconds:.2f} s)" if self.seconds else self.kind


ON_WORKERS: Final = (
    "kill", "kill before start", "kill before settle", "kill after settle", "kill", "term", "term twice", "kill the supervisor",
    "stop past the lease", "stop for a moment",
    "slow", "trickle", "cut reply", "lose reply", "cut request", "lose request", "silence", "late silence", "partition", "late partition",
    "late settle", "late claim", "lose grants", "refuse",
    "poison", "lose submit reply",
)  # fmt: skip
ON_SERVER: Final = ("pause", "storm", "clock forward", "clock back")
NEEDS_CALM: Final = ("hog",)
COSTS_A_LEASE: Final = (
    "partition",
    "late partition",
    "late settle",
    "pause",
    "storm",
    "silence",
    "late silence",
    "refuse",
    "clock forward",
)
LAST: Final = ("lose grants", "late claim", "late claim", "late claim")
"""At the very end, and nothing after them that could mend it: what was granted to a worker that does not know of it stays undone."""
QUIET_END: Final = 3.0
"""Seconds before them in which nothing happens to the server."""


def draw(
    seed: int, *, seconds: float, every: float, ttl: float, clock: bool, loses: bool = False
) -> list[Fault]:
    """The faults of a run of so many seconds.

    Each kind comes once before any comes twice. The server is killed every ``SERVER_APART`` leases.

    Args:
        every: seconds from one fault to the next.
        clock: whether the server's clock can be stepped.
        loses: restarts forget: they come more often, and are short, so that the server is back while leases of before still run.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    cards = _cards(chance, clock=clock)
    server_at = ttl * 3
    calm_until = 0.0
    at = 0.5
    waiting: list[str] = []
    last_at = seconds - every / 2
    while at < last_at:
        if at >= server_at and at >= calm_until and at < last_at - QUIET_END:
            faults.append(
                Fault(at, "server", chance.uniform(0.0, 0.1) if loses else chance.uniform(0.1, 0.5 * ttl))
            )
            server_at = at + (POWER_LOSS_APART if loses else SERVER_APART) * ttl
        else:
            kind = waiting.pop(0) if waiting and at >= calm_until else next(cards)
            if kind == "hog":
                # done where nothing else disturbs it: right after a restart's lease, far from the next one
                if at + CALM * ttl > server_at or any(
                    f.kind == "server" and f.at > at - 2 * ttl for f in faults
                ):
                    waiting.append(kind)
                    kind = next(card for card in cards if card not in NEEDS_CALM)
                else:
                    calm_until = at + CALM * ttl
            if (at < calm_until and kind in COSTS_A_LEASE) or (
                at > last_at - QUIET_END and kind in ON_SERVER
            ):
                waiting.append(kind)
                kind = "kill"
            faults.append(Fault(at, kind, _length(kind, chance, ttl)))
        at += every * chance.uniform(0.8, 1.2)
    return faults + [Fault(last_at, kind, _length(kind, chance, ttl)) for kind in LAST]


def _cards(chance: random.Random, *, clock: bool) -> Iterator[str]:
    """Every kind once, in any order, again and again; the first few are those that any run must have."""
    first = [
        "kill",
        "kill before settle",
        "stop past the lease",
        "kill before start",
        "term twice",
        "late settle",
        "lose submit reply",
    ]
    chance.shuffle(first)
    rest = [kind for kind in (*ON_WORKERS, *ON_SERVER, *NEEDS_CALM) if clock or not kind.startswith("clock")]
    for kind in first:
        rest.remove(kind)
    chance.shuffle(rest)
    yield from first
    yield from rest
    while True:
        deck = rest + first
        chance.shuffle(deck)
        yield from deck


def _length(kind: str, chance: random.Random, ttl: float) -> float:
    """How long it lasts, as this kind is meant."""
    low, high = {
        "stop past the lease": (1.3 * ttl, 2.0 * ttl),
        "stop for a moment": (0.1 * ttl, 0.3 * ttl),
        "partition": (1.1 * ttl, 1.5 * ttl),
        "late partition": (1.2 * ttl, 1.6 * ttl),
        "late settle": (3.0 * ttl, 3.0 * ttl),
        "late claim": (ttl, ttl),
        "clock forward": (1.1 * ttl, 1.3 * ttl),
        "term twice": (0.05, 0.3),
        "silence": (0.1 * ttl, 0.6 * ttl),
        "late silence": (0.1 * ttl, 0.6 * ttl),
        "refuse": (0.1, 0.6),
        "slow": (1.0, 2.0),
        "trickle": (0.5, 1.5),
        "pause": (0.1, 0.25 * ttl),
        "storm": (0.5, 1.0),
        "hog": (1.2 * ttl, 1.6 * ttl),
    }.get(kind, (0.0, 0.0))
    return round(chance.uniform(low, high), 3)
