"""The expressions of ``flowq status --check``: one figure against one number, decided by exit code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import attrs
import typer

from flowq.backends.redis.views import Snapshot, TypeView

_CHECK: Final = re.compile(
    r"\s*(?:(?P<type>[A-Za-z0-9_.-]+)\.)?(?P<what>[a-z_]+)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<number>-?\d+(?:\.\d+)?)\s*"
)
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
_OF_TYPES: Final[dict[str, tuple[str, Callable[[TypeView], float | None]]]] = {
    "ready": ("sum", lambda t: t.ready),
    "running": ("sum", lambda t: t.running),
    "delayed": ("sum", lambda t: t.delayed),
    "dead": ("sum", lambda t: t.dead),
    "orphaned": ("sum", lambda t: t.orphaned),
    "oldest_waiting": ("max", lambda t: t.oldest_waiting),
    "overdue": ("max", lambda t: None if t.next_due is None else max(0.0, -t.next_due)),
    "longest_running": ("max", lambda t: t.longest.seconds if t.longest else None),
    "done_per_second": ("sum", lambda t: t.per_second("succeeded")),
    "failed_per_second": ("sum", lambda t: t.per_second("dead") + t.per_second("retried")),
    "crashed": ("sum", lambda t: t.recent.get("crashed", 0)),
    "crashes_per_hour": ("sum", lambda t: t.crashes_per_hour),
    "skewed": ("sum", lambda t: t.recent.get("skewed", 0)),
    "unserved": ("sum", lambda t: int(t.unserved)),
    "served_by": ("min", lambda t: t.served_by),
}
_OF_APP: Final[dict[str, Callable[[Snapshot], float | None]]] = {
    "workers": lambda s: sum(w.alive for w in s.workers),
    "draining": lambda s: sum(w.alive and w.draining for w in s.workers),
    "letters": lambda s: s.letters,
    "quarantine": lambda s: s.quarantine,
    "epoch_age": lambda s: s.epoch_age,
    "memory_percent": lambda s: s.server.memory_percent,
}


@attrs.frozen
class Check:
    """One expression of ``--check``. A figure that there is none of (nothing waits, no maxmemory) counts as 0."""

    text: str
    type: str | None
    what: str
    op: str
    number: float

    def value(self, snapshot: Snapshot) -> float | None:
        """The figure. Over all types: the sum, or the worst.

        Raises:
            typer.BadParameter: there is no such type.
        """
        if self.what in _OF_APP:
            return _OF_APP[self.what](snapshot)
        how, read = _OF_TYPES[self.what]
        types = [t for t in snapshot.types if self.type in (None, t.name)]
        if not types and self.type is not None:
            raise typer.BadParameter(f"{self.text!r}: the app has no type {self.type!r}")
        values = [v for t in types if (v := read(t)) is not None]
        if not values:
            return None
        combine: Any = {"sum": sum, "max": max, "min": min}[how]
        return float(combine(values))

    def holds(self, snapshot: Snapshot) -> bool:
        return _COMPARE[self.op](self.value(snapshot) or 0.0, self.number)


def parse_check(text: str) -> Check:
    """Read ``[TYPE.]WHAT OP NUMBER``.

    Raises:
        typer.BadParameter: it cannot be understood; the message lists what can be asked.
    """
    found = _CHECK.fullmatch(text)
    known = {**_OF_TYPES, **_OF_APP}
    if found is None or found["what"] not in known or (found["type"] and found["what"] in _OF_APP):
        raise typer.BadParameter(
            f"{text!r}: write [TYPE.]WHAT OP NUMBER, WHAT one of {', '.join(sorted(known))} (the last word's unit is seconds where it "
            f"is a duration), OP one of < <= > >= == !="
        )
    return Check(text.strip(), found["type"], found["what"], found["op"], float(found["number"]))
