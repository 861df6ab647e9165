"""What an operator sees: frozen records, read from the keys alone, without the app's code.

What this room does: name every figure and its unit. What it will not do: read or print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from flowq._fleet import MANY_LETTERS, each_once
from flowq._model import JobStatus

VIEW_VERSION = 1
"""Version of what ``flowq status --json`` prints; it goes up when a field changes its meaning or goes away."""


@attrs.frozen
class ServerView:
    """The Redis behind the app."""

    version: str
    kind: str
    """``redis`` or ``valkey``."""
    role: str
    used_memory: int
    """Bytes."""
    max_memory: int
    """Bytes; 0: no limit."""
    eviction: str
    """``maxmemory-policy``; anything but ``noeviction`` loses jobs."""
    aof: bool
    snapshots: bool
    """RDB snapshots were ever taken by this server process."""
    uptime: int
    """Seconds."""
    replicas: int

    @property
    def memory_percent(self) -> float | None:
        """Share of ``maxmemory`` in use; None: there is no limit."""
        return round(100 * self.used_memory / self.max_memory, 1) if self.max_memory else None

    @property
    def persistence(self) -> str:
        """In a word: ``aof``, ``rdb`` or ``none``."""
        return "aof" if self.aof else "rdb" if self.snapshots else "none"


@attrs.frozen
class LongestView:
    """The body of a lane that has been running for longest."""

    job: str
    """Stream entry of the job; its id unless it was delayed or retried."""
    member: str
    seconds: float


@attrs.frozen
class TypeView:
    """One lane at one moment."""

    name: str
    ready: int
    """Waiting for a worker, handed-back ones among them."""
    oldest_waiting: float | None
    """Seconds that the oldest ready job has been waiting; None: none waits."""
    running: int
    orphaned: int
    """In the hands of dead workers: waiting to be adopted when their lease has ended."""
    running_by: Mapping[str, int]
    """Member → bodies."""
    longest: LongestView | None
    limit: int | None
    """In force; None: unlimited, 0: nothing starts."""
    declared: tuple[int | None, ...] = attrs.field(converter=each_once)
    """What the live members' code says, one value if they agree."""
    override: int | None
    """Set by ``flowq limits set``; survives deploys."""
    paused: bool
    delayed: int
    delayed_at_least: bool
    """There are more delayed jobs than were looked at: ``delayed`` is a lower bound."""
    next_due: float | None
    """Seconds until the earliest delayed job is due; negative: overdue, nobody calls."""
    dead: int
    dead_at_least: bool
    served_by: int
    """Live members that serve it; 0: its jobs wait."""
    recent: Mapping[str, int]
    """Counters of the last minutes: submitted, succeeded, retried, dead, cancelled, crashed, skewed, run_ms."""
    recent_seconds: float
    total: Mapping[str, int]
    """The same counters since ever."""
    crashes_per_hour: int
    """Jobs that went down with a worker in the last hour."""

    @property
    def unserved(self) -> bool:
        """Jobs wait, and no live worker serves this type."""
        return self.served_by == 0 and self.ready + self.orphaned + self.delayed > 0

    @property
    def disagreement(self) -> bool:
        """Live workers declare different limits (the least of them is in force)."""
        return len(self.declared) > 1

    def per_second(self, what: str) -> float:
        """Rate of a counter over the last minutes."""
        return self.recent.get(what, 0) / self.recent_seconds if self.recent_seconds else 0.0


@attrs.frozen
class WorkerView:
    """One member of the fleet: one life of a worker process."""

    member: str
    host: str
    pid: int
    version: str
    backend: str
    concurrency: int
    lease_left: float
    """Seconds; negative or 0: its lease has ended and its jobs are being adopted."""
    age: float
    """Seconds since it joined."""
    running: int
    """Jobs in its hands, by the pending lists."""
    lanes: tuple[str, ...]
    lease_ttl: float | None
    """Seconds, that it was started with."""
    draining: bool
    """It takes no more jobs, and lets those finish that it has."""
    suspect: str | None
    """It holds a job that has nearly used up its crashes: ``lane|entry``."""

    @property
    def alive(self) -> bool:
        """Its lease has not ended."""
        return self.lease_left > 0


@attrs.frozen
class TtlView:
    """A change of the lease TTL that is under way. Until it is complete, expiry follows the larger value, and every worker's own
    deadline the smaller one.
    """

    before: float
    """Seconds."""
    to: float
    """Seconds."""
    is_open: bool
    """Every live worker has acknowledged it: workers with either value may join."""
    workers: int
    """Live ones that were started with the new value."""


@attrs.frozen
class Snapshot:
    """All of an app at one moment: read in one transaction."""

    name: str
    namespace: str | None
    at: float
    """Unix seconds, by the server's clock."""
    layout: str
    lease_ttl: float | None
    """Seconds, as the server reckons; None: no worker has ever joined."""
    lease_ttl_change: TtlView | None
    quarantine: float
    """Seconds for which limited types start nothing because the server had forgotten; 0: none."""
    epoch_age: float | None
    """Seconds since the server was last seen to have forgotten who ran: a failover, a restart, lost keys, or the app's first worker.
    None: no worker has ever joined."""
    letters: int
    """Dead letters of all types, exactly."""
    cancelling: int
    """Running jobs whose cancellation is on its way."""
    types: tuple[TypeView, ...]
    workers: tuple[WorkerView, ...]
    server: ServerView

    @property
    def many_letters(self) -> bool:
        """More than 80 % of the dead letters that are kept: beyond them the oldest are lost."""
        return self.letters >= MANY_LETTERS


@attrs.frozen
class JobView:
    """One job that has not ended, or what is left of one that has."""

    id: str
    lane: str
    status: JobStatus
    entry: str | None = None
    seconds: float | None = None
    """Running: since its worker got it. Ready: since it waits. Delayed: until it is due."""
    member: str | None = None
    deliveries: int = 0
    crashes: int = 0
    envelope: Mapping[str, Any] | None = None
    """The job as it was submitted; None: it cannot be read."""
    record: Mapping[str, Any] | None = None
    """What became of it, if it has ended and the record is kept."""
    letter: LetterView | None = None

    @property
    def attempt(self) -> int:
        return int((self.envelope or {}).get("attempt", 1))


@attrs.frozen
class LetterView:
    """A dead letter."""

    letter: str
    """Its own id: ``<Unix ms>-<n>`` of the moment it died."""
    lane: str
    job: str
    kind: str
    reason: str
    detail: Mapping[str, Any]
    raw: bytes
    """The envelope as it lay in the stream."""

    @property
    def at(self) -> float:
        """Unix seconds of its death, by the server's clock."""
        return int(self.letter.partition("-")[0]) / 1000


@attrs.frozen
class AppRow:
    """One app that has keys on a server."""

    name: str
    namespace: str | None
    workers: int
    types: int


def as_json(view: Any) -> bytes:
    """Any of these records as JSON; properties that ``status`` prints are part of it."""
    return msgspec.json.encode(_plain(view))


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        plain = {a.name: _plain(getattr(value, a.name)) for a in attrs.fields(type(value))}
        for name in ("memory_percent", "persistence", "unserved", "disagreement", "alive", "at"):
            if isinstance(getattr(type(value), name, None), property):
                plain[name] = getattr(value, name)
        return plain
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
