"""Which offsets above the committed one have not ended, as text for the metadata of a commit.

Kafka commits one offset a partition: all below it is done. What is done above it would run again after a crash, were it not written
down beside. The text is a version, a kind and base64: runs of unfinished and finished offsets in turns as LEB128 numbers, or one bit
an offset, whichever is shorter after zlib. Text that cannot be read is no map, which means repeats and never a loss.

Pure. Source of the idea: Confluent's parallel consumer, ``OffsetMapCodecManager``.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence

MOST_BYTES = 4096
"""``offset.metadata.max.bytes`` of a broker that nobody changed."""
WIDEST = 1 << 16
"""Offsets in a map at most: a longer one is none of ours."""
RUNS, BITS = "1r", "1b"


def encode(low: int, end: int, unfinished: Sequence[int], most: int = MOST_BYTES) -> str:
    """The text for offsets from ``low`` up to ``end``, of which these have not ended.

    Args:
        low: the offset that is committed. It has not ended, unless the range is empty.
        end: one more than the highest offset that was seen.
        unfinished: ascending, within the range.
        most: bytes that the text may have. Where it is not enough, the range is cut: what lies beyond runs again after a crash.

    Returns:
        The text; empty if nothing above ``low`` has ended.
    """
    while len(unfinished) < end - low:
        text = min(
            (_packed(RUNS, _runs(low, end, unfinished)), _packed(BITS, _bits(low, end, unfinished))), key=len
        )
        if len(text) <= most and end - low <= WIDEST:
            return text
        end = low + (end - low) // 2
        unfinished = [offset for offset in unfinished if offset < end]
    return ""


def decode(low: int, text: str) -> tuple[int, list[int]]:
    """``end`` and the unfinished offsets, as they were given to ``encode``; ``(low, [])`` for no text, or one that cannot be read."""
    kind, body = text[:2], text[2:]
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(body, validate=True), WIDEST)
        if unpacker.unconsumed_tail or not unpacker.eof:
            return low, []
        if kind == RUNS:
            return _from_runs(low, raw)
        if kind == BITS:
            return _from_bits(low, raw)
    except (binascii.Error, zlib.error, ValueError):
        return low, []
    return low, []


def _packed(kind: str, raw: bytes) -> str:
    return kind + base64.b64encode(zlib.compress(raw, 6)).decode()


def _runs(low: int, end: int, unfinished: Sequence[int]) -> bytes:
    """Lengths of runs in turns, the first one unfinished."""
    lengths: list[int] = []
    at = low
    for first, last in _stretches(unfinished):
        if lengths or first > low:
            lengths.append(first - at)  # finished before it
        if not lengths and first == low:
            lengths.append(last + 1 - first)
        elif len(lengths) == 1 and first > low:
            lengths = [0, first - low, last + 1 - first]
        else:
            lengths.append(last + 1 - first)
        at = last + 1
    if at < end:
        lengths += [0, end - low] if not lengths else [end - at]
    return b"".join(_leb(length) for length in lengths)


def _stretches(ascending: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch without a gap."""
    for _, group in itertools.groupby(enumerate(ascending), key=lambda pair: pair[1] - pair[0]):
        found = [offset for _, offset in group]
        yield found[0], found[-1]


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _from_runs(low: int, raw: bytes) -> tuple[int, list[int]]:
    unfinished: list[int] = []
    at, number, shift, is_unfinished = low, 0, 0, True
    for byte in raw:
        number |= (byte & 127) << shift
        shift += 7
        if byte & 128:
            continue
        if at + number - low > WIDEST:
            raise ValueError("longer than a map can be")
        if is_unfinished:
            unfinished += range(at, at + number)
        at += number
        number, shift, is_unfinished = 0, 0, not is_unfinished
    if shift:
        raise ValueError("it ends within a number")
    return at, unfinished


def _bits(low: int, end: int, unfinished: Sequence[int]) -> bytes:
    """One bit for each offset, 1 is unfinished; a last 1 marks the end."""
    bits = 1 << (end - low)
    for offset in unfinished:
        bits |= 1 << (offset - low)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _from_bits(low: int, raw: bytes) -> tuple[int, list[int]]:
    bits = int.from_bytes(raw, "little")
    length = bits.bit_length() - 1
    if not 0 <= length <= WIDEST:
        raise ValueError("no end, or longer than a map can be")
    return low + length, [low + at for at in range(length) if bits >> at & 1]
