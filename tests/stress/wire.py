"""What the proxies look for on the wire, for the traps: which calls, and what is in them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Final

from flowq.backends.redis.script import Script
from tests.stress.load import LIMITS

_TASK = re.compile(rb'"task":"(\w+)"')
_DONE = re.compile(
    rb"\$2\r\nok\r\n\$\d+\r\n(\w+)\r\n\$\d+\r\n\d+\r\n\$\d+\r\n\d+\r\n\$\d+\r\n(\d+-\d+)\r\n"
    rb"|\$3\r\nend\r\n\$\d+\r\n(\w+)\r\n\$\d+\r\n\d+\r\n\$\d+\r\n\d+\r\n\$\d+\r\n(\d+-\d+)\r\n"
)
"""The first outcome of a group of successes in a settle: kind, lane, count, milliseconds, entry."""
_NOT_RUN: Final = b"-NOSCRIPT"


def sha(script: Script, version: tuple[int, int, int]) -> bytes:
    """By which a script is called on a server of that version."""
    return hashlib.sha1(script.text_for(version).encode()).hexdigest().encode()


def call(data: bytes) -> bool:
    """Any call."""
    return bool(data)


def answer(data: bytes) -> bool:
    """Any reply but that the server does not have the script yet."""
    return not data.startswith(_NOT_RUN)


def grants(data: bytes) -> dict[str, int]:
    """What a claim's reply grants, by type."""
    return dict(Counter(name.decode() for name in _TASK.findall(data)))


def done(data: bytes) -> str:
    """A job of a limited type whose success a settle tells. Its body would take a while if it ran again."""
    found = [(match[1] or match[3], match[2] or match[4]) for match in _DONE.finditer(data)]
    return next((f"{task.decode()}:{entry.decode()}" for task, entry in found if task.decode() in LIMITS), "")
