"""(0) flowq v0.0.4: a sorted set of pending jobs for each type; every worker fights for its head behind a lock.

The head stays where it is until its body has ended, so nothing is lost when a worker dies: the lock ends, and the next one takes the
same head. For the same reason everybody else sees only the head, and it is locked: a type runs one job at a time, whatever its limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.designs.design import LIMITS, TTL_MS, Candidate, Job
from flowq.backends.redis.connection import Arg
from flowq.backends.redis.script import Script

FIGHT = Script(
    "fight",
    """\
local prefix = KEYS[1]          -- pending:<type>, lock:<type>
local me = ARGV[1]              -- str
local ttl = tonumber(ARGV[2])   -- int: ms
local room = tonumber(ARGV[3])  -- int
local rest = 4                  -- ARGV[4..]: the number of ended jobs, those jobs, types

local ended, taken = tonumber(ARGV[rest]), {}
for i = rest + 1, rest + ended do
  local job = ARGV[i]
  local type = string.match(job, ' (%a+) ')
  if redis.call('GET', prefix .. 'lock:' .. type) == me then
    redis.call('ZREM', prefix .. 'pending:' .. type, job)
    redis.call('DEL', prefix .. 'lock:' .. type)
  end
end
for i = rest + ended + 1, #ARGV do
  if #taken == room then break end
  local head = redis.call('ZRANGE', prefix .. 'pending:' .. ARGV[i], 0, 0)[1]
  if head and redis.call('SET', prefix .. 'lock:' .. ARGV[i], me, 'NX', 'PX', ttl) then taken[#taken + 1] = head end
end
return taken
""",
)
RENEW = Script(
    "renew",
    """\
local prefix = KEYS[1]  -- lock:<type>
local me = ARGV[1]      -- str
local ttl = ARGV[2]     -- int: ms
local rest = 3          -- ARGV[3..]: types

for i = rest, #ARGV do
  local lock = prefix .. 'lock:' .. ARGV[i]
  if redis.call('GET', lock) == me then redis.call('PEXPIRE', lock, ttl) end
end
""",
)
PREFIX = "head-lock:"


class HeadLock(Candidate):
    """Types are asked in one call, since their locks are apart."""

    async def submit(self, jobs: Sequence[Job]) -> None:
        await self.channel.execute_many(
            ("ZADD", f"{PREFIX}pending:{job.type}", job.number, job.raw) for job in jobs
        )

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        texts = [job.raw for job in ended]
        args: list[Arg] = [self.me, TTL_MS, room, len(texts), *texts, *LIMITS]
        return [Job(raw) for raw in await self.channel.evalsha(FIGHT, [PREFIX], args)]

    async def renew(self, running: Sequence[Job]) -> list[Job]:
        types = {job.type for job in running}
        await self.channel.evalsha(RENEW, [PREFIX], [self.me, TTL_MS, *types])
        return []
