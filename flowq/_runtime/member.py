"""This worker's membership: who it is for the server now, until when, and what must happen when that ends.

A worker lives through several memberships; each has a fresh id and a lease of its own. The order at the end of one (LEASE.md
§2.9): nothing starts any more, limited bodies are cancelled, and only when they have left does the worker join again, naming
its former id; bodies of lanes that may outlive a lease go on and are kept by the new member.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from os import getpid

import attrs

from flowq._core.lease import Lease
from flowq._fleet import ttl_change
from flowq._model import Delivery, LanePolicy, LeaseTimes
from flowq._runtime.floor import NO_LEASE, Floor
from flowq._runtime.keeper import Keeper
from flowq.backends.protocol import Backend, MemberFacts, Standing, TtlNotYet

PATIENCE = 2.0
"""In TTLs: how long after its lease a worker waits for limited bodies to leave before it joins again all the same. By then their
entries are adoptable by everybody, whatever it says."""


def member_facts(concurrency: int, backend: str) -> MemberFacts:
    """What this process says of itself."""
    try:
        ours = version("trio-flowq")
    except PackageNotFoundError:  # a source tree that was not installed
        ours = "0+unknown"
    return MemberFacts(socket.gethostname(), getpid(), ours, concurrency, backend)


class Member:
    """See the module. ``standing`` goes with every call; ``over`` says that there is no membership now."""

    def __init__(
        self,
        backend: Backend,
        floor: Floor,
        keeper: Keeper,
        facts: MemberFacts,
        lanes: Mapping[str, LanePolicy],
        ttl: float,
    ) -> None:
        self._backend = backend
        self._floor = floor
        self._keeper = keeper
        self._facts = facts
        self._lanes = lanes
        self.aside: set[str] = set()
        """Of them those that cannot be served now; the next join leaves them out."""
        self._times = LeaseTimes.of(ttl)
        self.standing = Standing("", 0, "", 0)
        self.generation = -1
        """Of the backend, when this membership was last confirmed."""
        self.must_confirm = False
        """Something may differ between the server and ``known``: no claim, mine or settle before it has been confirmed."""
        self.over = True
        self.heard = ""
        """The change of the fleet's lease TTL that the server spoke of last, and that this worker heeds."""
        self._waits_for = ""
        """The change for which it was told to wait."""
        self._over_since = 0.0
        self._told_at = floor.loop.now()
        """When the last request was sent whose answer told of a change of the fleet's lease TTL, or of none; at first: now, for what
        this worker was started with was right when it was started."""

    async def join(self) -> float:
        """Become a member, the first time or again. Returns the seconds of quarantine.

        Raises:
            OtherTtl, TtlNotYet, IncompatibleLayout, ServerError: see ``Fleet.join``.
        """
        floor, old = self._floor, self.standing.member
        generation, sent_at = self._backend.generation, floor.loop.now()
        keep = floor.may_outlive_lease()
        heard = self.heard or (self._waits_for and f"?{self._waits_for}")
        try:
            joined = await self._backend.fleet.join(
                self._facts,
                self.served,
                ttl=self._times.ttl,
                old=old or None,
                keep=keep if old else (),
                heard=heard,
                silence=sent_at - self._told_at,
            )
        except TtlNotYet as exc:
            self._wait_for(exc)
            self._told_at = sent_at
            raise
        kept = set(joined.kept)
        stay = [delivery for delivery in floor.known.values() if delivery.fence in kept]
        floor.drop([delivery for delivery in floor.known.values() if delivery.fence not in kept])
        for delivery in stay:
            delivery.epoch = joined.epoch
        self.generation, self.must_confirm, self.over = generation, False, False
        self.standing = Standing(joined.member, 0, joined.epoch, self.standing.fence)
        self._hear(joined.change)
        floor.lease = Lease.begin(self._trusted_times(), sent_at, self.heard)
        self._keeper.watch_over(floor.lease, self.standing)
        return joined.quarantine

    @property
    def served(self) -> dict[str, LanePolicy]:
        """What the next join states."""
        return {lane: policy for lane, policy in self._lanes.items() if lane not in self.aside}

    def confirmed(self, epoch: str, fences: list[int], sent_at: float) -> int:
        """Take the server's word for what is ours; the rest is dropped. Returns how many bodies are cancelled by that."""
        floor = self._floor
        ours = set(fences)
        cancelled = floor.drop([d for d in floor.known.values() if d.fence not in ours])
        for delivery in floor.known.values():
            delivery.epoch = epoch
        self.standing = attrs.evolve(self.standing, epoch=epoch)
        floor.lease.confirmed(sent_at, floor.loop.now())
        self._keeper.watch_over(floor.lease, self.standing)
        return cancelled

    def next_session(self) -> Standing:
        """Older sessions' claims are refused from the next ``mine`` on."""
        self.standing = attrs.evolve(self.standing, session=self.standing.session + 1)
        self._keeper.watch_over(self._floor.lease, self.standing)
        return self.standing

    def seen_fence(self, fence: int) -> None:
        if fence > self.standing.fence:
            standing = self.standing
            self.standing = Standing(standing.member, standing.session, standing.epoch, fence)
            self._keeper.standing = self.standing

    def lapse(self, why: str) -> None:
        """The membership is over: the server said so, or its deadline passed. Does nothing the second time."""
        if self.over:
            self._floor.drop(list(self._floor.ready))
            return
        floor = self._floor
        lease, now = floor.lease, floor.loop.now()
        self.over, self._over_since, self._told_at = True, now, lease.told_at
        lease.lost(now)
        cancelled = floor.lose_lease()
        self._keeper.poke()
        # the keeper may be waiting for an answer, and the exchange for the server: neither would tell the supervisor in time
        self._keeper.publish()
        floor.events.say(
            logging.ERROR, "lease.lost", "this worker lost its lease (%s): %d bodies cancelled, %d jobs kept; it joins again",
            why, cancelled, len(floor.known), why=why, bodies=cancelled, kept=len(floor.known),
        )  # fmt: skip
        floor.turn.set()

    def lapse_of(self, lease: Lease, why: str) -> None:
        """The same, if it is still this lease that is in force (the keeper's word comes late)."""
        if self._floor.lease is lease and lease is not NO_LEASE:
            self.lapse(why)

    def note_forgot(self, lease: Lease) -> None:
        """A renewal met another epoch: confirm before anything else."""
        if self._floor.lease is lease:
            self.must_confirm = True
            self._floor.turn.set()

    def note_change(self, lease: Lease, change: str) -> None:
        """A renewal was told of another change of the fleet's lease TTL than this worker heeds, or that there is none any more."""
        floor = self._floor
        if floor.lease is lease and change != self.heard:
            self._hear(change)
            lease.heed(change, self._trusted_times(), floor.loop.now())
            floor.watch.set()

    def _trusted_times(self) -> LeaseTimes:
        """Of the TTL that this worker was started with; while the fleet's is changed, of the smaller value, whatever it was."""
        both = ttl_change(self.heard)
        return self._times if both is None else LeaseTimes.of(min(both))

    def _wait_for(self, refusal: TtlNotYet) -> None:
        if refusal.change != self._waits_for:
            self._waits_for = refusal.change
            self._floor.events.say(logging.WARNING, "lease_ttl.waits", "waiting to join: %s", refusal)

    def _hear(self, change: str) -> None:
        if change == self.heard:
            return
        self.heard = change
        both, ours = ttl_change(change), self._times.ttl
        if both is None:
            self._floor.events.say(
                logging.INFO, "lease_ttl.changed", "lease_ttl is %g s in the whole fleet; this worker reckons with it", ours,
                to=ours, trusted=ours, complete=True,
            )  # fmt: skip
        else:
            self._floor.events.say(
                logging.INFO, "lease_ttl.changed", "lease_ttl is being changed from %g s to %g s; this worker was started with %g s, and "
                "reckons with %g s until all workers were started with the new value", both[0], both[1], ours, min(both),
                to=both[1], trusted=min(both), complete=False,
            )  # fmt: skip

    def must_wait(self, now: float) -> float:
        """Seconds for which joining again must wait, because limited bodies have not left yet; 0: it may be done now."""
        if not self._floor.limited_bodies():
            return 0.0
        longest = max(self._times.ttl, *(ttl_change(self.heard) or (0.0,)))
        return max(0.0, self._over_since + PATIENCE * longest - now)

    @property
    def lease_ttl(self) -> float:
        """Seconds, that this worker was started with."""
        return self._times.ttl

    @property
    def known(self) -> list[Delivery]:
        """Everything that this worker answers for: running, unstarted, unsent."""
        return list(self._floor.known.values())
