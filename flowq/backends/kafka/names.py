"""Topics and groups, by name: legal for Kafka, different for different lanes, and readable.

``flowq.<app>.<lane>``; where an app or a lane has other characters than letters, digits and ``-``, or the name would be too long, a
digest follows, for Kafka takes two names that differ only in ``.`` and ``_`` for one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MOST: Final = 249
"""Characters in the name of a topic."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9-]+")
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]")
_DIGITS: Final = 12


def topic_name(app: str, lane: str) -> str:
    """The topic of a lane. ``app`` is the full name, with its namespace."""
    return _name(app, lane)


def group_name(app: str) -> str:
    """The consumer group of an app's workers."""
    return _name(app)


def _name(*parts: str) -> str:
    name = ".".join(("flowq", *parts))
    if all(_PLAIN.fullmatch(part) for part in parts) and len(name) <= MOST:
        return name
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]
    return f"{_OTHER.sub('-', name)[: MOST - _DIGITS - 1]}.{digest}"
