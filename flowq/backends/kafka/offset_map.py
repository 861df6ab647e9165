"""Finished offsets above the low-water mark, as the short text that Kafka keeps beside a committed offset.

``fq1:<topic's id>:<runs>``: the runs as pairs of variable-length integers (distance from the last run's end, length), compressed, in
base 85. Whatever cannot be read is no map: those records run once more, none is lost.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

LIMIT: Final = 4096
"""Bytes of metadata that a broker accepts as it is shipped (``offset.metadata.max.bytes``)."""
VERSION: Final = "fq1"
_MOST_BYTES: Final = 1 << 20
"""Of the runs when unpacked: far more than fit into any metadata that flowq writes."""

Run = tuple[int, int]
"""``[start, stop)``."""


def encode(low: int, runs: Iterable[Run], topic: str = "", limit: int = LIMIT) -> str:
    """The text for what is finished above ``low``; of at most ``limit`` bytes: if need be the lowest runs only.

    Args:
        low: the offset that is committed beside it.
        runs: ascending, none touching another.
        topic: the topic's id, by which a topic that was deleted and made anew is told from the one that this speaks of.
        limit: at least as long as the text without any run.
    """
    head = f"{VERSION}:{topic}:"
    ends: list[int] = []
    packed = bytearray()
    last = low
    for start, stop in runs:
        _put(packed, start - last)
        _put(packed, stop - start)
        last = stop
        ends.append(len(packed))
    if not ends:
        return head
    text = head + _squeeze(packed)
    if len(text) <= limit:
        return text
    fits, too_many, best = 0, len(ends), head
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        text = head + _squeeze(packed[: ends[middle - 1]])
        if len(text) <= limit:
            fits, best = middle, text
        else:
            too_many = middle
    return best


def decode(low: int, text: str | None, topic: str = "") -> Sequence[Run]:
    """The runs of ``encode``; none if the text is missing or cannot be read."""
    parts = (text or "").split(":", 2)
    if len(parts) != 3 or parts[0] != VERSION or not parts[2] or is_other_topic(text, topic):
        return ()
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.b85decode(parts[2]), _MOST_BYTES)
    except (ValueError, zlib.error):
        return ()
    if not unpacker.eof or unpacker.unused_data:
        return ()
    return _read(low, packed)


def is_other_topic(text: str | None, topic: str) -> bool:
    """Whether the text speaks of another topic of the same name. False where either id is not known."""
    parts = (text or "").split(":", 2)
    return len(parts) == 3 and parts[0] == VERSION and bool(parts[1]) and bool(topic) and parts[1] != topic


def _squeeze(packed: bytes | bytearray) -> str:
    return base64.b85encode(zlib.compress(packed, 9)).decode("ascii")


def _put(packed: bytearray, number: int) -> None:
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _read(low: int, packed: bytes) -> Sequence[Run]:
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    if shift or len(numbers) % 2:
        return ()
    runs: list[Run] = []
    last = low
    for distance, length in zip(numbers[::2], numbers[1::2], strict=True):
        if not distance or not length:
            return ()
        runs.append((last + distance, last + distance + length))
        last = runs[-1][1]
    return runs
