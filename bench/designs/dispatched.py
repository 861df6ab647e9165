"""(2) A queue for each worker, filled by a dispatcher: one elected worker deals jobs out, to whoever has the least.

Workers never compete: each pops its own list. The dispatcher alone looks at limits. It is one more hop for each job, everything goes
at its pace, and what has been dealt to a busy worker waits there, a limited job with its token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import anyio

from bench.designs.design import BLOCK, LIMITS, TTL, TTL_MS, Candidate, Job
from flowq.backends.redis.connection import Arg
from flowq.backends.redis.script import Script

DEAL = Script(
    "deal",
    """\
local prefix = KEYS[1]          -- inbox:<type>, queue:<worker>, running:<type>, owner, load, workers
local ttl = tonumber(ARGV[1])   -- int: ms
local recovers = ARGV[2]        -- '1' | '0': jobs of dead workers are dealt out again
local depth = tonumber(ARGV[3]) -- int: jobs that one worker may have, running and waiting
local rest = 4                  -- ARGV[4..]: (type, limit) …

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = rest, #ARGV, 2 do
  local running = prefix .. 'running:' .. ARGV[i]
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', running, 0, now, 'LIMIT', 0, 100)) do
    local owner = redis.call('HGET', prefix .. 'owner', job)
    redis.call('ZREM', running, job)
    redis.call('HDEL', prefix .. 'owner', job)
    redis.call('LREM', prefix .. 'queue:' .. owner, 0, job)
    redis.call('HINCRBY', prefix .. 'load', owner, -1)
    if recovers == '1' then redis.call('LPUSH', prefix .. 'inbox:' .. ARGV[i], job) end
  end
end

local workers, load, left = redis.call('ZRANGEBYSCORE', prefix .. 'workers', now, '+inf'), {}, 500
for _, worker in ipairs(workers) do load[worker] = tonumber(redis.call('HGET', prefix .. 'load', worker) or 0) end

local function least()
  local best
  for _, worker in ipairs(workers) do
    if load[worker] < depth and (not best or load[worker] < load[best]) then best = worker end
  end
  return best
end

for i = rest, #ARGV, 2 do
  local type, limit = ARGV[i], tonumber(ARGV[i + 1])
  local running, want = prefix .. 'running:' .. type, left
  if limit > 0 then want = math.min(want, limit - redis.call('ZCARD', running)) end
  while want > 0 do
    local worker = least()
    local job = worker and redis.call('LPOP', prefix .. 'inbox:' .. type)
    if not job then break end
    redis.call('ZADD', running, now + ttl, job)
    redis.call('HSET', prefix .. 'owner', job, worker)
    redis.call('RPUSH', prefix .. 'queue:' .. worker, job)
    load[worker], want, left = load[worker] + 1, want - 1, left - 1
  end
end
for worker, jobs in pairs(load) do redis.call('HSET', prefix .. 'load', worker, jobs) end
return left
""",
)
TURN = Script(
    "turn",
    """\
local prefix = KEYS[1]           -- queue:<worker>, running:<type>, owner, load, workers, wake
local me = ARGV[1]               -- str
local ttl = tonumber(ARGV[2])    -- int: ms
local room = tonumber(ARGV[3])   -- int
local rest = 4                   -- ARGV[4..]: the number of ended jobs, those jobs, jobs to keep

local t = redis.call('TIME')
local until_ = t[1] * 1000 + math.floor(t[2] / 1000) + ttl
local ended = tonumber(ARGV[rest])
redis.call('ZADD', prefix .. 'workers', until_, me)
for i = rest + 1, #ARGV do
  local running = prefix .. 'running:' .. string.match(ARGV[i], ' (%a+) ')
  local mine = redis.call('HGET', prefix .. 'owner', ARGV[i]) == me
  if mine and i > rest + ended then
    redis.call('ZADD', running, 'XX', until_, ARGV[i])
  elseif mine then
    redis.call('ZREM', running, ARGV[i])
    redis.call('HDEL', prefix .. 'owner', ARGV[i])
    redis.call('HINCRBY', prefix .. 'load', me, -1)
  end
end
if ended == 0 and room == 0 then
  for _, job in ipairs(redis.call('LRANGE', prefix .. 'queue:' .. me, 0, -1)) do
    redis.call('ZADD', prefix .. 'running:' .. string.match(job, ' (%a+) '), 'XX', until_, job)
  end
end
if ended > 0 and redis.call('LLEN', prefix .. 'wake') == 0 then redis.call('RPUSH', prefix .. 'wake', 1) end
return room > 0 and redis.call('LPOP', prefix .. 'queue:' .. me, room) or {}
""",
)
PREFIX = "dispatched:"


class Dispatched(Candidate):
    """A worker has at most twice as many jobs as slots, so that it finds the next ones when some end."""

    waits_for_jobs = True

    async def submit(self, jobs: Sequence[Job]) -> None:
        inboxes: dict[str, list[bytes]] = defaultdict(list)
        for job in jobs:
            inboxes[job.type].append(job.raw)
        for type_, texts in inboxes.items():
            for begin in range(0, len(texts), 5000):
                await self.channel.execute("RPUSH", f"{PREFIX}inbox:{type_}", *texts[begin : begin + 5000])
        await self.channel.execute("RPUSH", PREFIX + "wake", 1)

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        args: list[Arg] = [self.me, TTL_MS, room, len(ended), *(job.raw for job in ended)]
        return [Job(raw) for raw in await self.channel.evalsha(TURN, [PREFIX], args)]

    async def wait(self, room: int) -> list[Job]:
        found = await self.link.reader.read("BLPOP", f"{PREFIX}queue:{self.me}", BLOCK, block=BLOCK)
        if not found:
            return []
        more = await self.channel.execute("LPOP", f"{PREFIX}queue:{self.me}", room - 1) if room > 1 else None
        return [Job(raw) for raw in (found[1], *(more or ()))]

    async def renew(self, running: Sequence[Job]) -> list[Job]:
        args: list[Arg] = [self.me, TTL_MS, 0, 0, *(job.raw for job in running)]
        await self.channel.evalsha(TURN, [PREFIX], args)
        return []

    async def run_beside(self) -> None:
        """Whoever holds the key deals; a dead dispatcher is replaced when its key has ended."""
        pairs = [word for pair in LIMITS.items() for word in pair]
        args = [TTL_MS, int(self.recovers), 2 * self.slots, *pairs]
        elect = ("SET", PREFIX + "dispatcher", self.me, "NX", "PX", TTL_MS)
        while True:
            elected, holder = await self.channel.execute_many([elect, ("GET", PREFIX + "dispatcher")])
            if not elected and holder != self.me.encode():
                await anyio.sleep(TTL / 4)
                continue
            await self.channel.execute("PEXPIRE", PREFIX + "dispatcher", TTL_MS)
            left = await self.channel.evalsha(DEAL, [PREFIX], args)
            if left:
                await self.link.second_reader.read("BLPOP", PREFIX + "wake", TTL / 4, block=TTL / 4)
