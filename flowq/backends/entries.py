"""Stream entry ids, ``<ms>-<seq>``, whoever mints them."""

from __future__ import annotations


def entry_order(entry: str) -> tuple[int, str, int, str]:
    """Where an entry stands in its stream: a key to sort by. No numbers are made of it, as each settle sorts its outcomes."""
    ms, _, seq = entry.partition("-")
    return len(ms), ms, len(seq), seq
