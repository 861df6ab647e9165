"""What a mutant is."""

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
