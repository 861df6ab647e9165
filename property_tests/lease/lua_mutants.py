"""Mutants of the scripts: one group for each promise that they break."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .server import Patch


@attrs.frozen
class Mutant:
    """``row``: where the rule comes from (LEASE §1 row, §2 rule, §3 mutant, CORRECTIONS item, or the defect that we had)."""

    name: str
    row: str
    patches: tuple[Patch, ...]


def mutant(name: str, row: str, file: str, *changes: tuple[str, str], also: Iterable[Patch] = ()) -> Mutant:
    return Mutant(name, row, (*(Patch(file, old, new) for old, new in changes), *also))


STARTED_IN_ANY_EPOCH = (
    Patch(
        "member.py",
        "claimed.status is not Status.OK or claimed.epoch != self.epoch",
        "claimed.status is not Status.OK",
    ),
    Patch(
        "member.py",
        "if held.delivery.epoch == self.epoch and now < self.deadline:",
        "if now < self.deadline:",
    ),
)
_BLOCK_USED = "  local used = pending(lane)\n  if not used then return false end\n"
_TAKE = "local take, capped = limit and math.min(most, limit - used) or most, false"
_ADOPT_BOUND = "local can = limit and math.min(most, limit - (used - dead)) or most"
