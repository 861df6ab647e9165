"""What the candidates that keep jobs in lists share: a lease beside the list, and a bell.

A list forgets what it gives out. So each type has a sorted set ``running:<type>``, job → end of its lease, written by the script that
pops: it is the limit's count and the record of what must be given out again. Without it (``recovers=False``) an expired entry frees its
token and the job is gone, as with a bare LPOP. Idle workers block on a list of rings, since a limited job may not be popped by BLPOP.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar
from zlib import crc32

from bench.designs.design import BLOCK, LIMITS, TTL_MS, Candidate, Job
from flowq.backends.redis.connection import Arg
from flowq.backends.redis.script import Script

HEADER = """\
local prefix = KEYS[1]         -- of all keys
local ttl = tonumber(ARGV[1])  -- int: ms
local recovers = ARGV[2]       -- '1' | '0': jobs of dead workers are given out again
local room = tonumber(ARGV[3]) -- int
local shard = ARGV[4]          -- str: which of the lists
local rest = 5                 -- ARGV[5..]: the number of ended jobs, those jobs, then (type, limit) …

"""
FUNCTIONS = """\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local limits, types, taken = {}, {}, {}

local function running(type) return prefix .. 'running:' .. type end

local function free(type)
  if limits[type] == 0 then return room end
  return limits[type] - redis.call('ZCARD', running(type))
end

local function lease(jobs, type)
  for _, job in ipairs(jobs) do
    redis.call('ZADD', running(type), now + ttl, job)
    taken[#taken + 1] = job
  end
end

local function ring()
  if redis.call('LLEN', prefix .. 'bell') < 8 then redis.call('RPUSH', prefix .. 'bell', 1) end
end

local freed = false
local ended = tonumber(ARGV[rest])
for i = rest + ended + 1, #ARGV, 2 do
  types[#types + 1] = ARGV[i]
  limits[ARGV[i]] = tonumber(ARGV[i + 1])
end
for i = rest + 1, rest + ended do
  local type = string.match(ARGV[i], ' (%a+) ')
  redis.call('ZREM', running(type), ARGV[i])
  freed = freed or limits[type] > 0
end

local function expire(list_of)
  for _, type in ipairs(types) do
    for _, job in ipairs(redis.call('ZRANGEBYSCORE', running(type), 0, now, 'LIMIT', 0, 100)) do
      redis.call('ZREM', running(type), job)
      if recovers == '1' then redis.call('LPUSH', list_of(job, type), job) end
    end
  end
end

"""
RENEW = Script(
    "renew",
    """\
local prefix = KEYS[1]         -- running:<type>
local ttl = tonumber(ARGV[1])  -- int: ms
local rest = 2                 -- ARGV[2..]: jobs

local t = redis.call('TIME')
for i = rest, #ARGV do
  local running = prefix .. 'running:' .. string.match(ARGV[i], ' (%a+) ')
  redis.call('ZADD', running, 'XX', t[1] * 1000 + math.floor(t[2] / 1000) + ttl, ARGV[i])
end
""",
)
PAIRS: list[Arg] = [word for pair in LIMITS.items() for word in pair]


class LeasedLists(Candidate):
    """A subclass says which lists there are, and has the script that takes from one."""

    prefix: ClassVar[str]
    script: ClassVar[Script]

    @abstractmethod
    def list_of(self, job: Job) -> str:
        """The key of the list where this job goes, without the prefix."""

    @property
    def home(self) -> int:
        """The shard where this worker begins."""
        return crc32(self.me.encode())

    async def ask(self, ended: Sequence[Job], room: int, shard: int = 0) -> list[Job]:
        """Call the script once."""
        texts = [job.raw for job in ended]
        args: list[Arg] = [TTL_MS, int(self.recovers), room, shard, len(texts), *texts, *PAIRS]
        return [Job(raw) for raw in await self.channel.evalsha(self.script, [self.prefix], args)]

    async def walk(self, ended: Sequence[Job], room: int, shards: int) -> list[Job]:
        """Ask one shard after the other, this worker's own first, until there is no room; each that has nothing is an attempt."""
        taken: list[Job] = []
        asked = empty = 0
        for step in range(shards):
            found = await self.ask(ended, room - len(taken), (self.home + step) % shards)
            ended = []
            asked += 1
            empty += not found
            taken += found
            if len(taken) == room:
                break
        if room:  # the worker's loop counts one attempt a turn, an empty one if it brought nothing
            self.attempts += asked - 1
            self.empty += empty - (not taken)
        return taken

    async def submit(self, jobs: Sequence[Job]) -> None:
        """Append to lists, and ring once: whoever takes and leaves something rings on."""
        lists: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            lists[self.list_of(job)].append(job)
        pushes: list[tuple[Arg, ...]] = [
            ("RPUSH", self.prefix + key, *(job.raw for job in jobs)) for key, jobs in lists.items()
        ]
        for begin in range(0, len(pushes), 500):
            await self.channel.execute_many(pushes[begin : begin + 500])
        await self.channel.execute("RPUSH", self.prefix + "bell", 1)

    async def wait(self, room: int) -> list[Job]:  # noqa: ARG002 - a ring brings no job
        await self.link.reader.read("BLPOP", self.prefix + "bell", BLOCK, block=BLOCK)
        return []

    async def renew(self, running: Sequence[Job]) -> list[Job]:
        await self.channel.evalsha(RENEW, [self.prefix], [TTL_MS, *(job.raw for job in running)])
        return []
