"""From the layout of v0.0.4 (a sorted set of task ids, a hash for each) to streams and timers, and back as far as nothing has started.

What this room does: the two scripts over a synchronous client, typed, and the facts that a check needs. What it will not do: print,
keep a ledger, or decide what a score means.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs

from flowq._envelope import MAX_PAYLOAD
from flowq._errors import ConfigurationError
from flowq.backends.redis.keys import Keys
from flowq.backends.redis.reader import read_many, text
from flowq.backends.redis.script import Script, execute_sync, load_text
from flowq.backends.redis.transfer import check_writable

if TYPE_CHECKING:
    import redis

    from flowq.backends.redis.connection import Arg

Meaning = Literal["due s", "due ms", "high", "low"]
"""Of a score: when the task may start, in Unix seconds or milliseconds; or a priority, of which the high or the low ones go first."""
Became = Literal["ready", "delayed", "audit"]

CHUNK: Final = 200
"""Tasks of one step: some milliseconds of Redis."""

SILENT: Final = 10
"""Seconds after which a mover that says nothing is not there."""

_LUA = Path(__file__).with_name("lua")
MOVE: Final = Script("legacy", load_text(_LUA / "legacy.lua"))
BACK: Final = Script("legacy_back", load_text(_LUA / "legacy_back.lua"))


@attrs.frozen
class Layout:
    """Where the old tasks lie, and what their scores mean."""

    meaning: Meaning
    pending: str = "tasks:status:pending"
    """The sorted set."""
    task: str = "task:{id}"
    """A hash's key."""
    name_field: str = "name"
    args_field: str = "args"
    kwargs_field: str = "kwargs"
    renamed: Mapping[str, str] = attrs.field(factory=dict)
    """Old task name → flowq's."""

    def __attrs_post_init__(self) -> None:
        if "{id}" not in self.task:
            raise ConfigurationError(
                f"the key of an old task, {self.task!r}, must say where the id stands: task:{{id}}"
            )

    def said(self) -> str:
        """As it is written down, so that a second mover cannot mean something else."""
        names = ",".join(f"{old}={new}" for old, new in sorted(self.renamed.items()))
        fields = f"{self.name_field},{self.args_field},{self.kwargs_field}"
        return f"score {self.meaning}; {self.pending}; {self.task}; fields {fields}; names {names or 'as they are'}"


@attrs.frozen
class Moved:
    """What has become of one old task."""

    task_id: str
    became: Became
    job: str
    """The job's id; of one in the audit list why it is there; empty in a dry run."""
    lane: str


@attrs.frozen
class Counts:
    """What the server says of a migration."""

    left: int
    """In the old set."""
    moved: int
    jobs: int
    """Distinct jobs among them."""
    outstanding: int
    """Of these, those that have not ended."""
    audit: int


class Legacy:
    """The migration of one app. Every method raises ``ServerError`` if the server does not answer as it should."""

    def __init__(self, client: redis.Redis, keys: Keys, where: str) -> None:
        self._client = client
        self._keys = keys
        self._clock = [keys.clock]
        self._where = where
        self._moved = keys.legacy("moved")
        self._audit = keys.legacy("audit")
        self._movers = keys.legacy("movers")
        self._layout = keys.legacy("layout")

    def begin(self, layout: Layout) -> None:
        """Write down what this migration takes the old layout to be.

        Raises:
            ConfigurationError: a migration with another idea of it has begun. IncompatibleLayout: of flowq's own keys.
        """
        check_writable(self._client, self._keys)
        execute_sync(self._client, "SETNX", self._layout, layout.said())
        before = text(execute_sync(self._client, "GET", self._layout))
        if before != layout.said():
            raise ConfigurationError(
                f"a migration of this app has begun with other options ({before}); these are {layout.said()}. Go on with the former "
                f"ones, or undo it first: flowq migrate legacy rollback"
            )

    def layout_said(self) -> str:
        """What a migration that has begun takes the old layout to be; empty: none has."""
        return text(execute_sync(self._client, "GET", self._layout) or b"")

    def left(self, pending: str) -> int:
        """Tasks in the old set.

        Raises:
            ServerError: it is no sorted set.
        """
        return int(execute_sync(self._client, "ZCARD", pending))

    def move(self, layout: Layout) -> tuple[list[Moved], int]:
        """Move the next tasks, in one step, and how many are left in the set. A lost reply (OutcomeUnknown) loses nothing: ask again."""
        return self._call(layout, -1)

    def look(self, layout: Layout) -> Iterator[Moved]:
        """What ``move`` would make of each task, without changing anything."""
        first = 0
        while found := self._call(layout, first)[0]:
            yield from found
            first += len(found)

    def _call(self, layout: Layout, first: int) -> tuple[list[Moved], int]:
        pairs: list[Arg] = [word for pair in layout.renamed.items() for word in pair]
        args: list[Arg] = [
            layout.pending, layout.task, layout.name_field, layout.args_field, layout.kwargs_field, layout.meaning, CHUNK, MAX_PAYLOAD,
            first, *pairs,
        ]  # fmt: skip
        left, *rest = MOVE.call_sync(self._client, self._clock, args)
        words = [text(word) for word in rest]
        return [Moved(*words[at : at + 4]) for at in range(0, len(words), 4)], int(left)  # type: ignore[arg-type]  # a literal type

    def give_back(self, pending: str, ids: Sequence[str], *, dry: bool = False) -> dict[str, str]:
        """Old id → ``back``, ``begun`` or ``unknown``: see the script."""
        args: list[Arg] = [pending, int(dry), *ids]
        words = [text(word) for word in BACK.call_sync(self._client, self._clock, args)]
        return dict(zip(words[::2], words[1::2], strict=True))

    def others(self, me: str) -> list[str]:
        """Say that ``me`` is at it; who else has said so within the last ten seconds."""
        now = int(execute_sync(self._client, "TIME")[0])
        execute_sync(self._client, "ZADD", self._movers, now, me)
        execute_sync(self._client, "ZREMRANGEBYSCORE", self._movers, "-inf", now - SILENT)
        return [
            text(one) for one in execute_sync(self._client, "ZRANGE", self._movers, 0, -1) if text(one) != me
        ]

    def end(self) -> None:
        """Forget the migration, once everything is back; its audit list stays."""
        execute_sync(self._client, "DEL", self._layout)

    def moved(self) -> Iterator[tuple[str, str]]:
        """Old id and job id of each task that was moved and is not back."""
        for task_id, row in self._rows(self._moved):
            yield task_id, row.partition("|")[2]

    def audited(self) -> Iterator[tuple[str, str]]:
        """Old id and reason of what could not become a job."""
        for task_id, row in self._rows(self._audit):
            yield task_id, row.partition("|")[2]

    def _rows(self, key: str) -> Iterator[tuple[str, str]]:
        cursor: bytes | int = 0
        while True:
            cursor, found = execute_sync(self._client, "HSCAN", key, cursor, "COUNT", CHUNK)
            words = [text(word) for word in found]
            yield from zip(words[::2], words[1::2], strict=True)
            if int(cursor) == 0:
                return

    def counts(self, pending: str, moved: Mapping[str, str]) -> Counts:
        """What there is beside ``moved``, old id → job id. O(moved tasks): each one's job is looked for."""
        jobs = sorted(set(moved.values()))
        outstanding = sum(self._outstanding(jobs[at : at + CHUNK]) for at in range(0, len(jobs), CHUNK))
        audit = int(execute_sync(self._client, "HLEN", self._audit))
        return Counts(self.left(pending), len(moved), len(jobs), outstanding, audit)

    def _outstanding(self, jobs: Sequence[str]) -> int:
        """How many of these have not ended."""
        commands: list[tuple[Arg, ...]] = []
        for job in jobs:
            lane, _, entry = job.rpartition(":")
            if entry.startswith("d"):
                commands += [("HEXISTS", self._keys.delayed_data, job), ("HEXISTS", self._keys.moved, job)]
            else:
                commands += [
                    ("XRANGE", self._keys.stream(lane), entry, entry),
                    ("HEXISTS", self._keys.moved, job),
                    ("HEXISTS", self._keys.delayed_data, job),
                ]
        replies = iter(read_many(self._client, commands, self._where))
        found = 0
        for job in jobs:
            count = 2 if job.rpartition(":")[2].startswith("d") else 3
            found += any(list(itertools.islice(replies, count)))
        return found
