"""Who is alive and how much may run at once: the members, their leases and the limits, in Redis."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import msgspec

from flowq._errors import ConfigurationError
from flowq.backends.redis import lease_ttl, scripts, surveying

if TYPE_CHECKING:
    from flowq._fleet import Survey, TtlChange
    from flowq._model import Confirmed, Delivery, Joined, LanePolicy, Renewed
    from flowq.backends.protocol import MemberFacts, Renewer, Standing
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.keys import Keys
    from flowq.backends.redis.listener import Listener
    from flowq.backends.redis.url import Address


def pool_of(lanes: Mapping[str, LanePolicy]) -> str:
    """Name of the pool: workers that serve the same lanes by the same policies ring one bell."""
    text = "\n".join(f"{lane}={scripts.policy_text(policy)}" for lane, policy in sorted(lanes.items()))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


class RedisFleet:
    """The Fleet of one app in Redis (see ``protocol.Fleet`` for what each call promises)."""

    def __init__(
        self,
        channel: Channel,
        listener: Listener,
        keys: Keys,
        address: Address,
        pools: dict[str, str],
        *,
        created_empty: bool,
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._keys = keys
        self._clock = [keys.clock]
        self._address = address
        self._pools = pools
        self._created_empty = created_empty
        self._unheard: list[str] = []
        self._began: Callable[[Collection[str]], None] = _nobody
        self._ends: Callable[[], None] = _nobody

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
        # a fresh id per call: if the reply is lost, that member is nobody and expires
        member = secrets.token_hex(8)
        # until its reply is here, that id may be a member that nobody is: the next join names it, too
        former = " ".join(filter(None, [old, *self._unheard]))
        self._unheard.append(member)
        pool = pool_of(lanes)
        ttl_ms = round(ttl * 1000)
        args = scripts.join(
            member,
            secrets.token_hex(8),
            ttl_ms=ttl_ms,
            virgin_ok=self._created_empty,
            old=former,
            pool=pool,
            facts=msgspec.json.encode(attrs.asdict(facts)),
            lanes=lanes,
            keep=keep,
            heard=heard,
            silence_ms=round(silence * 1000),
        )
        reply = await self._channel.evalsha(scripts.JOIN, self._clock, args)
        try:
            joined = scripts.read_join(reply, member, keep, ttl_ms)
        except ConfigurationError:
            self._unheard.remove(member)  # refused: it is nobody
            raise
        # from here on the server can have forgotten
        self._created_empty = False
        self._unheard.clear()
        self._pools.pop(old or "", None)
        self._pools[member] = pool
        self._began(lanes)
        return joined

    def on_serving(self, began: Callable[[Collection[str]], None], ends: Callable[[], None]) -> None:
        """Call back when a member has joined, with its lanes, and when one drains or leaves: who brings jobs from elsewhere asks."""
        self._began, self._ends = began, ends

    async def confirm(self, me: Standing, known: Sequence[Delivery]) -> Confirmed:
        args = scripts.confirm(me, secrets.token_hex(8), known)
        return scripts.read_confirm(await self._channel.evalsha(scripts.CONFIRM, self._clock, args), known)

    async def leave(self, me: Standing) -> None:
        self._ends()
        await self._channel.evalsha(scripts.LEAVE, self._clock, [me.member])
        self._pools.pop(me.member, None)

    def renewer(self) -> Renewer:
        return RedisRenewer(self._address, self._keys)

    async def set_limit(self, lane: str, limit: int | None) -> None:
        what = "reset" if limit is None else "limit"
        await self._channel.evalsha(scripts.CONTROL, self._clock, [lane, what, limit or 0])

    async def pause(self, lane: str, paused: bool) -> None:
        await self._channel.evalsha(scripts.CONTROL, self._clock, [lane, "pause" if paused else "resume", 0])

    async def change_ttl(self, ttl: float) -> TtlChange:
        reply = await self._channel.evalsha(scripts.LEASE_TTL, self._clock, lease_ttl.arguments(ttl))
        return lease_ttl.read_reply(reply, ttl)

    def on_control(self, callback: Callable[[], None]) -> None:
        self._listener.subscribe(self._keys.control, lambda _: callback())

    async def cancels(self) -> list[tuple[str, str, str]]:
        return scripts.read_cancels(await self._channel.execute("HGETALL", self._keys.cancels))

    async def survey(self, me: Standing) -> Survey:
        return await surveying.survey(self._channel, self._keys, me)

    async def note(self, me: Standing, *, draining: bool, skewed: Mapping[str, int]) -> None:
        if draining:
            self._ends()
        args: scripts.Args = [me.member, int(draining)]
        for lane, jobs in skewed.items():
            args += (lane, jobs)
        await self._channel.evalsha(scripts.NOTE, self._clock, args)

    async def foreign(self) -> dict[str, str]:
        return await surveying.foreign(self._channel, self._keys)


def _nobody(*_: object) -> None:
    """Nobody asks."""


class RedisRenewer:
    """The keeper thread's own connection: redis-py's plain client, with its automatic retry off."""

    def __init__(self, address: Address, keys: Keys) -> None:
        self._client = address.sync_client(socket_timeout=1.0, socket_connect_timeout=1.0)
        self._clock = [keys.clock]

    def renew(self, me: Standing, running: int, heard: str = "") -> Renewed:
        args = scripts.renew(me, secrets.token_hex(8), running, heard)
        return scripts.read_renew(scripts.RENEW.call_sync(self._client, self._clock, args))

    def close(self) -> None:
        self._client.close()
