"""What can go wrong with a call, and who decides when it does."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs


@attrs.frozen
class DropRequest:
    """It never arrives, and the connection breaks; the caller cannot know that: ``OutcomeUnknown``."""


@attrs.frozen
class DropReply:
    """It is done, and the connection breaks before the reply: ``OutcomeUnknown``."""


@attrs.frozen
class Late:
    """The connection breaks (``OutcomeUnknown``); the request is done all the same, after ``calls`` further calls (W5)."""

    calls: int = 1


@attrs.frozen
class Delay:
    """It takes longer: seconds on the way there, and on the way back."""

    there: float = 0.0
    back: float = 0.0


@attrs.frozen
class Outage:
    """The connection breaks; this call and all others for so many seconds are ``Unavailable``."""

    seconds: float


@attrs.frozen
class Freeze:
    """The line stands still for so many seconds: nothing passes either way, nothing breaks."""

    seconds: float


Fault = DropRequest | DropReply | Late | Delay | Outage | Freeze


@attrs.frozen
class Call:
    """What is about to be called."""

    name: str
    """The Protocol's method: ``"exchange"``, ``"renew"``, …"""
    number: int
    """Counts the calls of that name on this line, from 1."""


class Schedule(Protocol):
    """Decides what becomes of a call."""

    def fault(self, call: Call) -> Fault | None:
        """The fault of this call; None: it goes well."""
        ...


@attrs.define
class Script:
    """Faults by name and number of the call: ``Script({("exchange", 2): DropReply()})``."""

    faults: Mapping[tuple[str, int], Fault] = attrs.Factory(dict[tuple[str, int], Fault])

    def fault(self, call: Call) -> Fault | None:
        return self.faults.get((call.name, call.number))


@attrs.define
class Dice:
    """Each call fails with this probability, by one of these faults; repeatable by the seed of its generator."""

    random: random.Random
    probability: float
    faults: Sequence[Fault]

    def fault(self, call: Call) -> Fault | None:  # noqa: ARG002 - dice do not look
        return self.random.choice(self.faults) if self.random.random() < self.probability else None
