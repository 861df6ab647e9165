"""The dead letters: looking, sending one back to work, throwing one away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from flowq._envelope import afresh
from flowq._errors import InvalidArguments
from flowq.backends.redis.reader import raw_pairs, text
from flowq.backends.redis.script import Script, execute_sync, load_text
from flowq.backends.redis.views import LetterView

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.keys import Keys

PAGE = 1000
"""Letters a look: one page takes Redis about a millisecond."""

_LUA = Path(__file__).with_name("lua")
LETTERS: Final = Script("letters", load_text(_LUA / "letters.lua"))
REPLAY: Final = Script("replay", load_text(_LUA / "replay.lua"))


@attrs.frozen
class Head:
    """A dead letter without its bulky parts."""

    letter: str
    lane: str
    job: str
    kind: str


@attrs.frozen
class Replayed:
    """What became of a replay: ``job`` is the new job; None: ``why`` says what stood in the way."""

    job: str | None
    why: str = ""


def heads(client: redis.Redis, keys: Keys) -> Iterator[Head]:
    """Every dead letter, newest first, page by page."""
    below = "+"
    while True:
        flat = LETTERS.call_sync(client, [keys.clock], [below, PAGE])
        for i in range(0, len(flat), 4):
            yield Head(*(text(v) for v in flat[i : i + 4]))
        if len(flat) < 4 * PAGE:
            return
        below = f"({text(flat[-4])}"


def count_letters(client: redis.Redis, keys: Keys, look: int) -> tuple[dict[str, int], bool]:
    """Letters by lane among the newest ``look``; and whether there are more."""
    found: dict[str, int] = {}
    for seen, head in enumerate(heads(client, keys)):
        if seen == look:
            return found, True
        found[head.lane] = found.get(head.lane, 0) + 1
    return found, False


def find(client: redis.Redis, keys: Keys, which: str) -> LetterView | None:
    """The letter of this id: its own (``<ms>-<n>``), or the dead job's (the newest, if the job died more than once)."""
    letter = which
    if ":" in which:
        found = next((h for h in heads(client, keys) if h.job == which), None)
        if found is None:
            return None
        letter = found.letter
    elif not letter.replace("-", "", 1).isdigit():
        raise InvalidArguments(
            f"{which!r} is neither a job id (type:…) nor the id of a dead letter (<ms>-<n>)"
        )
    rows = execute_sync(client, "XRANGE", keys.dead, letter, letter)
    return read_letter(rows[0]) if rows else None


def read_letter(row: Any) -> LetterView:
    fields = raw_pairs(row[1])
    try:
        detail = msgspec.json.decode(fields.get("detail", b"{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        detail = {}
    return LetterView(
        letter=text(row[0]),
        lane=text(fields.get("lane", b"")),
        job=text(fields.get("id", b"")),
        kind=text(fields.get("kind", b"")),
        reason=text(fields.get("reason", b"")),
        detail=detail,
        raw=fields.get("d", b""),
    )


def replay(client: redis.Redis, keys: Keys, letter: LetterView) -> Replayed:
    """Submit the letter's job as a new one and remove the letter, in one step.

    Raises:
        OutcomeUnknown: the reply was lost: look whether the letter is still there. ServerFull: nothing happened.
    """
    envelope, key = afresh(letter.raw)
    answer = REPLAY.call_sync(client, [keys.clock], [letter.letter, key, envelope])
    what, *more = (text(v) for v in answer)
    if what == "replayed":
        return Replayed(more[0])
    if what == "taken":
        return Replayed(None, f"its idempotency key {key!r} belongs to {more[0]} now, which has not ended")
    return Replayed(None, "the letter is not there any more")


def drop(client: redis.Redis, keys: Keys, letter: str) -> bool:
    """Remove a letter for good; False: it was not there."""
    return bool(execute_sync(client, "XDEL", keys.dead, letter))
