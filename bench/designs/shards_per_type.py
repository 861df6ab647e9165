"""(5) Shards for each type: like a list for each type, each in several lists; a worker begins at its own shard, then helps the others.

The limit is a type's and not a shard's, so its count stays in one place. What the shards share out is the pops, which Redis runs one
after the other anyway; an idle worker asks each shard in turn, and the order of jobs is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from bench.designs.design import Job
from bench.designs.leased_lists import FUNCTIONS, HEADER, LeasedLists
from flowq.backends.redis.script import Script

SHARDS = 4
TAKE = """\
local function list(_, type) return prefix .. 'list:' .. type .. ':' .. shard end

expire(list)
for _, type in ipairs(types) do
  local want = math.min(room - #taken, free(type))
  if want > 0 then lease(redis.call('LPOP', list(nil, type), want) or {}, type) end
  if free(type) > 0 and redis.call('EXISTS', list(nil, type)) == 1 then ring() end
end
if freed then ring() end
return taken
"""


class ShardsPerType(LeasedLists):
    """Four shards for each type."""

    prefix = "shards-per-type:"
    script = Script("shards_per_type", HEADER + FUNCTIONS + TAKE)

    def list_of(self, job: Job) -> str:
        return f"list:{job.type}:{crc32(job.raw) % SHARDS}"

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        return await self.walk(ended, room, SHARDS)
