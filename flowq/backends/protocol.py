"""What a place for jobs must be able to do: four small Protocols. Their docstrings are the contract.

What this room does: says what each call guarantees, whatever the place. What it will not do: decide anything, wait for anything,
name a concrete place.

Redis implements all four; Kafka will bring a Stream and use Redis's Fleet, Timers and Results. Limits are not a matter of the
Stream: they are the Fleet's facts, and a Stream admits what the Fleet allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from flowq._errors import ConfigurationError, FlowqError
from flowq._fleet import Survey, TtlChange
from flowq._model import (
    CancelAnswer,
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    JobStatus,
    Joined,
    LanePolicy,
    Receipt,
    Record,
    Renewed,
    Settled,
    Submission,
    Want,
)


@attrs.frozen
class Capabilities:
    """What users must know differs between places, as data."""

    name: str
    exact_delay: bool
    cancel_ready: bool
    ordered: bool
    delivery_count: bool
    survives_process: bool
    """Jobs outlive this process (False for the memory backend)."""


@attrs.frozen
class MemberFacts:
    """What a worker says of itself when it joins; shown by ``flowq status``."""

    host: str
    pid: int
    version: str
    concurrency: int
    backend: str


@attrs.frozen
class Standing:
    """Who is calling: every call of a member carries it."""

    member: str
    session: int
    epoch: str
    fence: int
    """Highest fence that this member has seen."""


class Stream(Protocol):
    """Where ready jobs wait and from where they are delivered."""

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        """Store a batch, all or nothing, once.

        The same ``batch_id`` sent again within the resend window stores nothing and returns the same receipts (P6).

        Raises:
            Unavailable: surely not stored. OutcomeUnknown: may be stored. ServerFull: refused, not stored.
        """
        ...

    async def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        """One turn: settle what ended, then claim what can start; one round trip where the place can do that.

        Each settle takes effect only if the member still owns that very delivery (owner, entry, n), and ``me.epoch`` is the
        server's; otherwise it is reported as refused and changes nothing. A settle is safe to send again. A claim is not: a lost reply is repaired by
        ``mine``. A limited lane never has more than its limit in flight, over all members.

        Raises:
            Unavailable: nothing of it happened. OutcomeUnknown: any part may have happened; reconcile.
        """
        ...

    async def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        """Hand back every entry that is pending for this member and not ``known`` to it.

        Called after each reconnect, once per session, with no exchange outstanding. It starts nothing. From then on the claims
        of older sessions are refused.
        """
        ...

    async def wait_ring(self, me: Standing, block: float) -> bool:
        """Wait for the doorbell, at most ``block`` seconds. True: somebody rang; False: the time is over.

        May be cancelled at any moment; a ring that is lost by it is covered by the fleet's safety poll.
        """
        ...

    def stop_waiting(self) -> None:
        """Make a waiting ``wait_ring`` return soon: this worker has no room, and should not eat the rings of others."""
        ...


class OtherTtl(ConfigurationError):
    """The fleet's lease TTL is another than this worker's."""

    def __init__(self, message: str, change: str) -> None:
        super().__init__(message)
        self.change = change
        """That is under way, as it travels."""


class TtlNotYet(OtherTtl):
    """It is being changed to this worker's, and some live member has not acknowledged that yet: try again soon."""


class Renewer(Protocol):
    """A connection of its own for the keeper's thread: plain blocking calls, no event loop."""

    def renew(self, me: Standing, running: int, heard: str = "") -> Renewed:
        """Extend the lease if the member is still live and of the server's epoch. O(1), whatever runs.

        ``heard`` is the change of the lease TTL that this member heeds already: its own deadline is that of the smaller value.

        Raises:
            ServerError: not answered; try again until the local deadline.
        """
        ...

    def close(self) -> None: ...


class Fleet(Protocol):
    """Who is alive, and how much may run at once."""

    async def join(
        self,
        facts: MemberFacts,
        lanes: Mapping[str, LanePolicy],
        *,
        ttl: float,
        old: str | None = None,
        keep: Sequence[Delivery] = (),
        heard: str = "",
        silence: float = 0.0,
    ) -> Joined:
        """Become a member under a fresh id.

        ``old`` is this worker's former member id: its entries are handed back uncounted, but those in ``keep`` (deliveries whose
        bodies still run, because their lanes may outlive a lease), which become the new member's.

        ``heard`` is the last change of the lease TTL that this worker was told of as a member: on a server that forgot, it goes
        on. With ``?`` before it: the worker was only told to wait for it. ``silence``: seconds since this worker sent the last request
        whose answer told it of a change, or of none, or since it was started. On a server that lost its clock the quarantine is no
        shorter, up to a minute: meanwhile the TTL may have been raised to that (never to more, see ``change_ttl``).

        Raises:
            OtherTtl: the fleet runs with another lease TTL. TtlNotYet: it is being changed to this one. IncompatibleLayout: see
            its name.
        """
        ...

    async def confirm(self, me: Standing, known: Sequence[Delivery]) -> Confirmed:
        """After the server forgot: which of these deliveries does it still show as this member's? Extends the lease."""
        ...

    async def leave(self, me: Standing) -> None:
        """End the membership; everything still pending is handed back uncounted. Only with no body running."""
        ...

    def renewer(self) -> Renewer:
        """A fresh connection for the keeper thread; may be called from that thread."""
        ...

    async def set_limit(self, lane: str, limit: int | None) -> None:
        """Override the limit of a lane: in force at once; survives deploys until reset. ``None`` resets to what is declared."""
        ...

    async def pause(self, lane: str, paused: bool) -> None:
        """Stop (or go on) starting jobs of a lane. Running ones are not touched; the limit is not forgotten."""
        ...

    async def change_ttl(self, ttl: float) -> TtlChange:
        """Change the lease TTL of the running fleet to ``ttl`` seconds, or take back the change that is under way.

        It is *open* when every live member has told that it heeds it: workers with either value may join from then on. It is
        complete when every live member was started with the new value, a longer one no sooner than it is long. Until then the server reckons with the larger value and
        every member, for its own deadline, with the smaller one. Asked again it tells how far it is.

        Raises:
            ConfigurationError: another change is under way, or no worker has ever joined.
        """
        ...

    def on_control(self, callback: Callable[[], None]) -> None:
        """Call back (in the event loop) when somebody cancelled or changed a limit: a hint to look now."""
        ...

    async def cancels(self) -> list[tuple[str, str, str]]:
        """(lane, entry, reason) of the cancellations that wait for a running body's end."""
        ...

    async def survey(self, me: Standing) -> Survey:
        """Look at the app as a whole: clock, memory, limits, lanes that nobody serves. Changes nothing; not for the hot path.

        Of all live members one ``speaks``; its look costs O(lanes), that of the others O(limited lanes).
        """
        ...

    async def note(self, me: Standing, *, draining: bool, skewed: Mapping[str, int]) -> None:
        """Say of oneself what an operator wants to see: one drains; how many jobs of which lane were put off for skew since the last
        note. Nothing depends on it, and it may be lost.
        """
        ...

    async def foreign(self) -> dict[str, str]:
        """Lanes of the app that cannot be used because somebody else's value lies in their place: lane → where. Asked after an error."""
        ...


class Timers(Protocol):
    """Jobs that are due later."""

    async def promote(self) -> float | None:
        """Move what is due into its stream and ring. Returns seconds until the next one is due, None: there is none."""
        ...


class Results(Protocol):
    """What became of a job."""

    async def wait(self, job_id: str, timeout: float | None) -> Record | None:
        """Wait for the job's record by notification. None: no such record and the job is not outstanding.

        Raises:
            TimeoutError: it had not ended in time; the job is not touched.
        """
        ...

    async def status(self, job_id: str) -> JobStatus: ...

    async def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        """Cancel it: remove it if it has not started (and store ``record``), else tell its worker.

        What was asked for stays asked for: a body that fails, is handed back or dies with its worker meanwhile is not run again.
        """
        ...


class Backend(Protocol):
    """An open place: what ``App`` opens and ``run`` works with."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def stream(self) -> Stream: ...
    @property
    def fleet(self) -> Fleet: ...
    @property
    def timers(self) -> Timers: ...
    @property
    def results(self) -> Results: ...
    @property
    def generation(self) -> int:
        """Goes up with each new connection: after a change, confirm and ``mine`` before anything else."""
        ...

    async def wait_up(self) -> None:
        """Wait until the place can be reached."""
        ...

    @property
    def why_down(self) -> FlowqError | None:
        """What kept it from being reached last, while it cannot be."""
        ...

    async def warnings(self) -> list[str]:
        """What makes this place lose or refuse jobs as it is set up: a sentence each, with the way out. Said at a worker's start.

        Raises:
            ServerError: not answered.
        """
        ...


OpenBackend = Callable[[], AbstractAsyncContextManager[Backend]]
