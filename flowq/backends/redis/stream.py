"""Jobs on Redis Streams: submit, settle + claim in one write, hand-back, and the doorbell."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import anyio

from flowq.backends.redis import scripts
from flowq.backends.redis.full import Refusals
from flowq.backends.redis.replies import NoGroup

if TYPE_CHECKING:
    from flowq._model import Delivery, Ended, Exchanged, Receipt, Settled, Submission, Want
    from flowq.backends.protocol import Standing
    from flowq.backends.redis.blocking import BlockingReader
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.keys import Keys
    from flowq.backends.redis.script import Script

TURNS = 1 << 16
RESEND_WINDOW_MS = 120_000
"""For how long a batch that is sent again is recognised. A marker costs about 100 bytes, so an hour of them would not be cheap."""


class RedisStream:
    """The Stream of one app in Redis (see ``protocol.Stream`` for what each call promises)."""

    def __init__(self, channel: Channel, reader: BlockingReader, keys: Keys, pools: dict[str, str]) -> None:
        self._channel = channel
        self._reader = reader
        self._keys = keys
        self._clock = [keys.clock]
        self._pools = pools
        self._draw = Random().randrange  # noqa: S311 - no secret
        self._refusals = Refusals(channel.address.redacted())

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        args = scripts.submit(batch_id, RESEND_WINDOW_MS, batch)
        with self._refusals.noticed():
            # whoever forms batches has waited for its companions already
            reply = await self._channel.evalsha(scripts.SUBMIT, self._clock, args, at_once=True)
        return scripts.read_submit(reply, batch)

    async def take_in(self, lane: str, most: int, jobs: Sequence[tuple[str, bytes]]) -> int:
        """Store (id, envelope) as ready jobs, oldest first, while fewer than ``most`` of the lane wait; each id once.

        Returns how many of them are taken care of, from the first on. Safe to send again.

        Raises:
            ServerFull, Unavailable: nothing was stored. OutcomeUnknown: send it again.
        """
        with self._refusals.noticed():
            args = scripts.take_in(lane, most, jobs)
            return int(await self._channel.evalsha(scripts.TAKE_IN, self._clock, args))

    async def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        calls: list[tuple[Script, Sequence[str], Sequence[scripts.Arg]]] = []
        ordered: list[Ended] = []
        if ended:
            args, ordered = scripts.settle(me, ended, want is not None and want.room > 0)
            calls.append((scripts.SETTLE, self._clock, args))
        if want is not None:
            # anywhere among the lanes: one claim may serve a few of many, and the next one should serve others
            turn = self._draw(TURNS)
            calls.append((scripts.CLAIM, self._clock, scripts.claim(me, want, turn)))
        replies = await self._channel.evalsha_many(calls, at_once=True)
        return scripts.read_exchange(replies, ordered, want is not None, anyio.current_time())

    async def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        reply = await self._channel.evalsha(scripts.MINE, self._clock, scripts.mine(me, known))
        return scripts.read_settle(reply[:1], [])

    async def wait_ring(self, me: Standing, block: float) -> bool:
        pool = self._pools.get(me.member)
        if pool is None:
            await anyio.sleep(block)
            return True
        bell = self._keys.bell(pool)
        # NOACK: a ring is a hint, and one that its reader drops is made good by the safety poll. One consumer for all members: it
        # owns nothing, so its name means nothing and need not be cleaned up
        try:
            reply = await self._reader.read(
                "XREADGROUP", "GROUP", "flowq", "w", "COUNT", 8, "NOACK",
                "BLOCK", max(1, int(block * 1000)), "STREAMS", bell, ">", block=block,
            )  # fmt: skip
        except NoGroup:
            # flushed under us: the claim that follows this "ring" will be told LOST, and the worker joins again
            await anyio.sleep(min(block, 0.1))
            return True
        return bool(reply)

    def stop_waiting(self) -> None:
        self._reader.unblock()
