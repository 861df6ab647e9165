"""(1) Sharded lists: a job goes to the list that the hash of its id names; a worker begins at its own shard, then helps the others.

A shard holds jobs of all types, so a job's limit is known only when it has been popped: one that may not run goes back to the end of
its shard, within the script. A saturated type is popped and pushed back for as long as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from bench.designs.design import Job
from bench.designs.leased_lists import FUNCTIONS, HEADER, LeasedLists
from flowq.backends.redis.script import Script

SHARDS = 8
LOOK = 32
"""Jobs that one call looks at, at most, beyond what it has room for."""
TAKE = f"""\
local key = prefix .. 'shard:' .. shard

expire(function() return key end)
local length = redis.call('LLEN', key)
for _ = 1, math.min(length, room + {LOOK}) do
  if #taken == room then break end
  local job = redis.call('LPOP', key)
  local type = string.match(job, ' (%a+) ')
  if free(type) > 0 then lease({{job}}, type) else redis.call('RPUSH', key, job) end
end
if (#taken > 0 and length > #taken) or freed then ring() end
return taken
"""


class Sharded(LeasedLists):
    """Eight shards."""

    prefix = "sharded:"
    script = Script("sharded", HEADER + FUNCTIONS + TAKE)

    def list_of(self, job: Job) -> str:
        return f"shard:{crc32(job.raw) % SHARDS}"

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        return await self.walk(ended, room, SHARDS)
