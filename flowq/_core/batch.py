"""What fits into one settle: a script that ran for long would block the server for everybody."""

from __future__ import annotations

from collections.abc import Sequence

from flowq._model import Again, Cancelled, Dead, Ended, Outcome, Succeeded

MOST_OUTCOMES = 500
MOST_BYTES = 1 << 20


def weight(outcome: Outcome) -> int:
    """Bytes that an outcome brings along, beside its ids."""
    match outcome:
        case Succeeded(record=record):
            return len(record) if record is not None else 0
        case Again(envelope=envelope):
            return len(envelope)
        case Dead(record=record, detail=detail):
            return len(record) + len(detail)
        case Cancelled(record=record):
            return len(record)
        case _:
            return 0


def how_many(ended: Sequence[Ended]) -> int:
    """How many of these, from the front, go into the next settle: at least one, if there is any."""
    most = min(len(ended), MOST_OUTCOMES)
    size = 0
    for i in range(most):
        size += weight(ended[i].outcome)
        if size > MOST_BYTES:
            return max(1, i)
    return most
