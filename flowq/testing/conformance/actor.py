"""A member of the fleet, played by a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq._model import Claimed, Confirmed, Delivery, Ended, Joined, Renewed, Settled, Status, Want
from flowq.backends.protocol import Backend, Standing

MANY = 1_000
"""Room for more than any check submits."""


class Actor:
    """One member, played by the check: it does only what it is told to."""

    def __init__(self, backend: Backend, joined: Joined) -> None:
        self.backend = backend
        self.joined = joined
        self.member = joined.member
        self.epoch = joined.epoch
        self.session = 1
        self.fence = 0
        self.heard = joined.change
        self.alive = True
        """The stage renews its lease while time passes."""
        self._renewer = backend.fleet.renewer()

    @property
    def me(self) -> Standing:
        return Standing(self.member, self.session, self.epoch, self.fence)

    async def claim(
        self,
        room: int = MANY,
        *,
        threads: int = 0,
        extra: Mapping[str, int] | None = None,
        ring: bool = False,
    ) -> Claimed:
        exchanged = await self.backend.stream.exchange(
            self.me, [], Want(room, threads, dict(extra or {}), ring)
        )
        assert exchanged.settled is None, "an exchange that settled nothing speaks of no settle"
        assert exchanged.claimed is not None
        return self._seen(exchanged.claimed)

    async def take(self, room: int = MANY) -> list[Delivery]:
        """The grants of a claim that must not be refused."""
        claimed = await self.claim(room)
        assert claimed.status is Status.OK, claimed.status
        return claimed.grants

    async def settle(self, *outcomes: Ended) -> Settled:
        exchanged = await self.backend.stream.exchange(self.me, outcomes, None)
        assert exchanged.claimed is None, "an exchange that claimed nothing speaks of no claim"
        assert exchanged.settled is not None
        return exchanged.settled

    async def finish(self, *outcomes: Ended) -> None:
        """Settle what must not be refused, if there is anything."""
        if not outcomes:
            return
        settled = await self.settle(*outcomes)
        assert settled.status is Status.OK, settled.status
        assert not settled.refused, [(d.lane, d.entry, why) for d, why in settled.refused]

    async def turn(self, outcomes: Sequence[Ended], room: int = MANY) -> list[Delivery]:
        """Settle and claim in one exchange."""
        exchanged = await self.backend.stream.exchange(self.me, outcomes, Want(room, 0, {}))
        assert exchanged.settled is not None
        assert exchanged.claimed is not None
        assert not exchanged.settled.refused
        return self._seen(exchanged.claimed).grants

    def _seen(self, claimed: Claimed) -> Claimed:
        self.fence = max([self.fence, *(grant.fence for grant in claimed.grants)])
        return claimed

    def renew(self) -> Renewed:
        return self._renewer.renew(self.me, 0, self.heard)

    def heed(self) -> None:
        """Hear what becomes of the lease TTL, act on it (its deadline is the check's own business), and tell so."""
        self.heard = self.renew().change
        self.renew()

    async def confirm(self, *known: Delivery) -> Confirmed:
        """Confirm, and go on in the epoch that the server named, as do the confirmed deliveries."""
        confirmed = await self.backend.fleet.confirm(self.me, known)
        if confirmed.status is Status.OK:
            self.epoch = confirmed.epoch
            for delivery in known:
                if delivery.fence in confirmed.fences:
                    delivery.epoch = confirmed.epoch
        return confirmed

    async def mine(self, *known: Delivery) -> Settled:
        """Begin a new session."""
        self.session += 1
        return await self.backend.stream.mine(self.me, known)

    async def leave(self) -> None:
        self.alive = False
        await self.backend.fleet.leave(self.me)

    def close(self) -> None:
        self._renewer.close()
