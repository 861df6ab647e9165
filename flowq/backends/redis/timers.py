"""Jobs that are due later: promoted by script, at most 100 a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowq.backends.redis import scripts

if TYPE_CHECKING:
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.keys import Keys


class RedisTimers:
    """The Timers of one app in Redis (see ``protocol.Timers``)."""

    def __init__(self, channel: Channel, keys: Keys) -> None:
        self._channel = channel
        self._clock = [keys.clock]

    async def promote(self) -> float | None:
        left = int(await self._channel.evalsha(scripts.PROMOTE, self._clock, []))
        return None if left < 0 else left / 1000
