"""Every key of an app, and nobody else spells one (the scripts derive theirs from the same prefix).

The app's name is the hash tag, so all keys of an app lie in one slot of a Redis Cluster and several apps spread over it.
"""

from __future__ import annotations

import attrs

from flowq._errors import IncompatibleLayout
from flowq._options import check_name

LAYOUT = "1"
"""The layout that this version writes and reads; stored in ``clock`` and checked by ``join``."""

GROUP = "flowq"


def full_name(name: str, namespace: str | None) -> str:
    """``name`` or ``name@namespace``: what tells an app from every other one on its server."""
    return f"{name}@{namespace}" if namespace else name


def app_prefix(name: str, namespace: str | None = None) -> str:
    """``flowq:{name}:`` or ``flowq:{name@namespace}:``."""
    check_name(name, "app name")
    if namespace:
        check_name(namespace, "namespace")
    return f"flowq:{{{full_name(name, namespace)}}}:"


def check_layout(written: str) -> None:
    """Producers write keys, too: refuse before the first one. ``join`` looks again, in the step in which it writes.

    Args:
        written: ``schema`` of the clock; empty: nobody has joined yet.

    Raises:
        IncompatibleLayout: another generation of flowq wrote it.
    """
    if written and written != LAYOUT:
        raise incompatible(written)


def incompatible(layout: str) -> IncompatibleLayout:
    """The refusal of keys that another generation of flowq wrote."""
    return IncompatibleLayout(
        f"the keys of this app were written in layout {layout}, this flowq reads layout {LAYOUT}: run the version of flowq that wrote "
        f"them, or use another namespace"
    )


@attrs.frozen
class Keys:
    """The keys of one app, by what they hold."""

    prefix: str

    @property
    def clock(self) -> str:
        """hash: the clocks, epoch, identity, lease TTL and a change of it, layout, place. The one key that scripts are given."""
        return self.prefix + "clock"

    @property
    def members(self) -> str:
        """zset: member → lease expiry (lease clock, ms); the sentinel ``''`` with +inf."""
        return self.prefix + "members"

    @property
    def expired(self) -> str:
        """zset: dead members that still own entries."""
        return self.prefix + "expired"

    def member(self, member: str) -> str:
        """hash: session, pool, facts, running, suspect, owes, and of the lease TTL what it was started with and has heard."""
        return f"{self.prefix}member:{member}"

    def stream(self, lane: str) -> str:
        """stream: ready and in-flight jobs; one field ``d`` = envelope. Never trimmed."""
        return f"{self.prefix}s:{lane}"

    def bell(self, pool: str) -> str:
        """stream: the doorbell of the workers that serve the same lanes."""
        return f"{self.prefix}bell:{pool}"

    def pool(self, pool: str) -> str:
        """hash: lane → policy, as its members declare it."""
        return f"{self.prefix}pool:{pool}"

    @property
    def pools(self) -> str:
        """set: pools that have members."""
        return self.prefix + "pools"

    def pool_members(self, pool: str) -> str:
        """set: the members of a pool that were not buried yet."""
        return f"{self.prefix}pm:{pool}"

    def ready(self, pool: str) -> str:
        """set: lanes of a pool that may have work or something to adopt."""
        return f"{self.prefix}ready:{pool}"

    @property
    def orphans(self) -> str:
        """set: lanes where the dead or nobody own entries."""
        return self.prefix + "orphans"

    @property
    def serve(self) -> str:
        """hash: lane → pools that serve it."""
        return self.prefix + "serve"

    @property
    def types(self) -> str:
        """set: every lane that was ever submitted to or served."""
        return self.prefix + "types"

    @property
    def limits(self) -> str:
        """hash: lane → limit in force; absent: unlimited."""
        return self.prefix + "limits"

    @property
    def override(self) -> str:
        """hash: lane → limit set at run time."""
        return self.prefix + "override"

    @property
    def paused(self) -> str:
        """set: paused lanes."""
        return self.prefix + "paused"

    @property
    def delayed(self) -> str:
        """zset: job id → due (waiting clock, ms)."""
        return self.prefix + "delayed"

    @property
    def delayed_data(self) -> str:
        """hash: job id → lane|envelope."""
        return self.prefix + "delayed:d"

    @property
    def moved(self) -> str:
        """hash: id of a job that was delayed or retried → its present entry."""
        return self.prefix + "moved"

    @property
    def imported(self) -> str:
        """hash with a TTL: place|id of a job that was imported → its id here."""
        return self.prefix + "imported"

    @property
    def dead(self) -> str:
        """stream: the dead letters."""
        return self.prefix + "dead"

    @property
    def cancels(self) -> str:
        """hash: lane|entry → reason, for running jobs."""
        return self.prefix + "cancels"

    def crashes(self, lane: str) -> str:
        """hash: entry → how often it took its worker down."""
        return f"{self.prefix}crashes:{lane}"

    def record(self, job_id: str) -> str:
        """string with a TTL: what became of a job."""
        return f"{self.prefix}r:{job_id}"

    def stats(self, lane: str, minute: int | None = None) -> str:
        """hash: counters of a lane since ever, or of one minute (Unix minutes; kept 24 h)."""
        return f"{self.prefix}stats:{lane}" if minute is None else f"{self.prefix}stats:{lane}:{minute}"

    @property
    def control(self) -> str:
        """pub/sub channel: hints that a limit or a cancellation changed."""
        return self.prefix + "control"

    def waiter(self, nonce: str) -> str:
        """pub/sub channel of one process that waits for results."""
        return f"{self.prefix}w:{nonce}"

    def legacy(self, what: str) -> str:
        """Of a migration from v0.0.4: ``moved`` and ``audit``, hashes old id → score|job or reason; ``layout``, what it is taken to be;
        ``movers``, zset of those at it.
        """
        return f"{self.prefix}legacy:{what}"
