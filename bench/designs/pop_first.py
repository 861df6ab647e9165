"""(0') flowq v0.0.4.1: ZPOPMIN takes jobs atomically, and only then asks for a concurrency token.

Nobody fights for a head any more, and a type reaches its limit. But a job that was popped and gets no token is in nobody's hands: the
worker raises ``failed to acquire concurrency token`` and the job is gone. So is each one whose worker dies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.designs.design import LIMITS, TTL_MS, Candidate, Job
from flowq.backends.redis.connection import Arg
from flowq.backends.redis.script import Script

ACQUIRE = Script(
    "acquire",
    """\
local tokens = KEYS[1]           -- zset: job → end of its token, ms
local ttl = tonumber(ARGV[1])    -- int: ms
local limit = tonumber(ARGV[2])  -- int
local rest = 3                   -- ARGV[3..]: jobs

local t = redis.call('TIME')
local now, got = t[1] * 1000 + math.floor(t[2] / 1000), 0
redis.call('ZREMRANGEBYSCORE', tokens, 0, now)
for i = rest, math.min(#ARGV, rest + limit - redis.call('ZCARD', tokens) - 1) do
  redis.call('ZADD', tokens, now + ttl, ARGV[i])
  got = got + 1
end
return got
""",
)
RENEW = Script(
    "renew",
    """\
local tokens = KEYS[1]         -- zset
local ttl = tonumber(ARGV[1])  -- int: ms
local rest = 2                 -- ARGV[2..]: jobs

local t = redis.call('TIME')
for i = rest, #ARGV do redis.call('ZADD', tokens, 'XX', t[1] * 1000 + math.floor(t[2] / 1000) + ttl, ARGV[i]) end
""",
)
PREFIX = "pop-first:"


class PopFirst(Candidate):
    """Asks the type first that had jobs the last time."""

    async def submit(self, jobs: Sequence[Job]) -> None:
        await self.channel.execute_many(
            ("ZADD", f"{PREFIX}pending:{job.type}", job.number, job.raw) for job in jobs
        )

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        limited = [job for job in ended if LIMITS[job.type]]
        release = [("ZREM", f"{PREFIX}tokens:{job.type}", job.raw) for job in limited]
        taken: list[Job] = []
        for type_ in sorted(LIMITS, key=lambda name: name != getattr(self, "last", "")):
            if room > len(taken):
                pop = ("ZPOPMIN", f"{PREFIX}pending:{type_}", room - len(taken))
                *_, flat = await self.channel.execute_many([*release, pop])
                release = []
                popped = [Job(raw) for raw in flat[::2]]
                if popped:
                    self.last = type_
                    taken += await self._with_tokens(type_, popped)
        await self.channel.execute_many(release)
        return taken

    async def _with_tokens(self, type_: str, popped: list[Job]) -> list[Job]:
        if not LIMITS[type_]:
            return popped
        args: list[Arg] = [TTL_MS, LIMITS[type_], *(job.raw for job in popped)]
        got: int = await self.channel.evalsha(ACQUIRE, [f"{PREFIX}tokens:{type_}"], args)
        for job in popped[got:]:
            self.attempts, self.empty = self.attempts + 1, self.empty + 1
            print(f"job {job.number}: failed to acquire concurrency token", file=sys.stderr)
        return popped[:got]

    async def renew(self, running: Sequence[Job]) -> list[Job]:
        for type_ in {job.type for job in running if LIMITS[job.type]}:
            texts = [job.raw for job in running if job.type == type_]
            await self.channel.evalsha(RENEW, [f"{PREFIX}tokens:{type_}"], [TTL_MS, *texts])
        return []
