"""What an operator can do to an app in Redis, without the app's code: look, cancel, limit, pause, replay.

What this room does: joins the reading rooms (``snapshot``, ``lookup``, ``letters``, ``audit``) and the scripts behind one object over
a synchronous client. What it will not do: print, ask, or decide what is healthy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowq._codec import encode_record
from flowq._errors import UnknownTask
from flowq._fleet import TtlChange
from flowq._model import CancelAnswer, Record
from flowq.backends.redis import audit, lease_ttl, letters, lookup, purging, scripts, snapshot, transfer
from flowq.backends.redis.fitness import Finding
from flowq.backends.redis.keys import Keys, app_prefix
from flowq.backends.redis.legacy import Legacy
from flowq.backends.redis.letters import Head, Replayed
from flowq.backends.redis.reader import read_many, text
from flowq.backends.redis.script import execute_sync
from flowq.backends.redis.views import AppRow, JobView, LetterView, Snapshot

if TYPE_CHECKING:
    import redis

    from flowq._jobfile import Incoming
    from flowq.backends.redis.url import Address

CANCEL_RECORD_TTL_MS = 86_400_000
"""How long a waiter can learn that its job was cancelled from the command line: the default ``failure_ttl``."""

_CLOCK = re.compile(r"flowq:\{([A-Za-z0-9_.-]+)(?:@([A-Za-z0-9_.-]+))?\}:clock")


class Admin:
    """One app, seen from outside. Every method raises ``ServerError`` if the server does not answer as it should."""

    def __init__(self, client: redis.Redis, name: str, namespace: str | None, where: str) -> None:
        self.name = name
        self.namespace = namespace
        self.where = where
        self._client = client
        self._keys = Keys(app_prefix(name, namespace))
        self._clock = [self._keys.clock]

    # --- looking

    def exists(self) -> bool:
        """There is or was such an app on this server."""
        return bool(execute_sync(self._client, "EXISTS", self._keys.clock))

    def snapshot(self) -> Snapshot:
        """The whole app at one moment. O(types + workers), and a bounded look at delayed jobs and dead letters."""
        return snapshot.take(self._client, self._keys, self.name, self.namespace, self.where)

    def job(self, job_id: str) -> JobView:
        """One job, by its id, whatever has become of it."""
        return lookup.job(self._client, self._keys, job_id, self.where)

    def jobs(self, lane: str, state: str | None, limit: int) -> list[JobView]:
        """Up to ``limit`` outstanding jobs of a lane, oldest first: ``running``, ``ready``, ``delayed``, or all three in that order."""
        return lookup.jobs(self._client, self._keys, lane, state, limit, self.where)

    def ahead(self, job: JobView) -> int:
        """How many ready jobs of its lane are in front of a ready job; at most ``lookup.LOOK_AHEAD`` are counted."""
        return lookup.ahead(self._client, self._keys, job, self.where)

    def audit(self) -> list[Finding]:
        """The cross-checks of everything that is written in two places."""
        return audit.check(self._client, self._keys, self.where)

    # --- acting

    def cancel(self, job_id: str, reason: str) -> CancelAnswer:
        """Cancel a job: one that has not started never will, a running one's worker is told."""
        record = encode_record(Record(status="cancelled", reason=reason))
        args: scripts.Args = [job_id, reason, record, CANCEL_RECORD_TTL_MS]
        return CancelAnswer(text(scripts.CANCEL.call_sync(self._client, self._clock, args)))

    def purge(self, lane: str, reason: str) -> int:
        """Cancel every job of a lane that is ready or delayed; running ones are not touched. Returns how many.

        Raises:
            UnknownTask: no such lane was ever served or submitted to.
        """
        self.check_known(lane)
        record = encode_record(Record(status="cancelled", reason=reason))
        return purging.purge(self._client, self._keys, lane, record, CANCEL_RECORD_TTL_MS)

    def set_limit(self, lane: str, limit: int | None) -> int | None:
        """Override a lane's limit until it is reset (None). Returns what is in force now; None: no limit.

        Raises:
            UnknownTask: no such lane was ever served or submitted to.
        """
        return self._control(lane, "reset" if limit is None else "limit", limit or 0)

    def pause(self, lane: str, paused: bool) -> int | None:
        """Stop starting jobs of a lane, or go on. Returns the limit in force, 0 while paused.

        Raises:
            UnknownTask: no such lane was ever served or submitted to.
        """
        return self._control(lane, "pause" if paused else "resume", 0)

    def change_ttl(self, ttl: float) -> TtlChange:
        """Begin to change the lease TTL (seconds) of the running fleet, take a change back, or see how far it is (``Fleet.change_ttl``).

        Raises:
            ConfigurationError: another change is under way, or no worker has ever joined.
        """
        args = lease_ttl.arguments(ttl)
        return lease_ttl.read_reply(scripts.LEASE_TTL.call_sync(self._client, self._clock, args), ttl)

    def _control(self, lane: str, what: str, value: int) -> int | None:
        self.check_known(lane)
        force = int(scripts.CONTROL.call_sync(self._client, self._clock, [lane, what, value]))
        return None if force < 0 else force

    def check_known(self, lane: str) -> None:
        """See whether the app has this type.

        Raises:
            UnknownTask: it has not; those that it has.
        """
        known = {text(t) for t in execute_sync(self._client, "SMEMBERS", self._keys.types)}
        if lane not in known:
            some = ", ".join(sorted(known)[:20]) or "none yet"
            raise UnknownTask(f"app {self.name!r} has no type {lane!r} on {self.where}; its types: {some}")

    # --- taking jobs elsewhere

    def place(self) -> str:
        """The name of this app's keys on this server, which outlives restarts and failovers; given now if they have none."""
        return transfer.place(self._client, self._keys)

    def lanes(self) -> list[str]:
        """Every type that was ever served or submitted to."""
        return transfer.lanes(self._client, self._keys)

    def count_outstanding(self, lanes: Sequence[str]) -> int:
        """How many jobs ``outstanding`` gives, at most."""
        return transfer.count(self._client, self._keys, lanes, self.where)

    def outstanding(self, lanes: Sequence[str]) -> Iterator[transfer.Outstanding]:
        """Every job of these lanes that has not ended, page by page: delayed ones as they are due, then each lane's, oldest first."""
        return transfer.outstanding(self._client, self._keys, lanes, self.where)

    def check_writable(self) -> bool:
        """See whether this version may write the app's keys; whether there are any.

        Raises:
            IncompatibleLayout: another generation of flowq wrote them.
        """
        return transfer.check_writable(self._client, self._keys)

    def store(
        self, source: str, jobs: Sequence[Incoming], *, again: bool, dry: bool
    ) -> list[tuple[transfer.Answer, str]]:
        """Store jobs of the place ``source``, all of them or none, each once. See ``transfer.store``."""
        return transfer.store(self._client, self._keys, source, jobs, again=again, dry=dry)

    def legacy(self) -> Legacy:
        """Taking over what waits in the layout of v0.0.4, and giving it back."""
        return Legacy(self._client, self._keys, self.where)

    # --- dead letters

    def letters(self) -> Iterator[Head]:
        """Every dead letter, newest first."""
        return letters.heads(self._client, self._keys)

    def letter(self, which: str) -> LetterView | None:
        """One letter, by the dead job's id or its own."""
        return letters.find(self._client, self._keys, which)

    def replay(self, letter: LetterView) -> Replayed:
        """Send a dead letter's job back to work as a new job, and remove the letter: both or neither."""
        return letters.replay(self._client, self._keys, letter)

    def drop(self, letter: str) -> bool:
        """Remove a letter for good; False: it was not there."""
        return letters.drop(self._client, self._keys, letter)


@contextmanager
def open_admin(address: Address, name: str, namespace: str | None = None) -> Iterator[Admin]:
    """An ``Admin`` over a connection of its own. Nothing connects before the first call.

    Raises:
        InvalidName: a name that no app can have.
    """
    client = address.sync_client()
    try:
        yield Admin(client, name, namespace, address.redacted())
    finally:
        client.close()


def apps(address: Address) -> list[AppRow]:
    """Every app that has keys on this server. Walks the whole key space (SCAN), a step at a time.

    Raises:
        ServerError: no answer.
    """
    client = address.sync_client()
    where = address.redacted()
    found: set[tuple[str, str | None]] = set()
    try:
        cursor: bytes | int = 0
        while True:
            cursor, keys = execute_sync(client, "SCAN", cursor, "MATCH", "flowq:{*}:clock", "COUNT", 1000)
            for key in keys:
                if match := _CLOCK.fullmatch(text(key)):
                    found.add((match[1], match[2]))
            if int(cursor) == 0:
                break
        rows: list[AppRow] = []
        for name, namespace in sorted(found, key=lambda row: (row[0], row[1] or "")):
            keys_ = Keys(app_prefix(name, namespace))
            # `members` holds the sentinel '' beside the members
            members, types = read_many(client, [("ZCARD", keys_.members), ("SCARD", keys_.types)], where)
            rows.append(AppRow(name, namespace, max(0, members - 1), types))
        return rows
    finally:
        client.close()
