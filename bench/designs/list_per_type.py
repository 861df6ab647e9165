"""(4) A list for each type: the limit is asked before the pop, in one script, so no job is taken that may not run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.designs.design import Job
from bench.designs.leased_lists import FUNCTIONS, HEADER, LeasedLists
from flowq.backends.redis.script import Script

TAKE = """\
local function list(_, type) return prefix .. 'list:' .. type end

expire(list)
for _, type in ipairs(types) do
  local want = math.min(room - #taken, free(type))
  if want > 0 then lease(redis.call('LPOP', list(nil, type), want) or {}, type) end
  if free(type) > 0 and redis.call('EXISTS', list(nil, type)) == 1 then ring() end
end
return taken
"""


class ListPerType(LeasedLists):
    """One call takes from every type's list."""

    prefix = "list-per-type:"
    script = Script("list_per_type", HEADER + FUNCTIONS + TAKE)

    def list_of(self, job: Job) -> str:
        return f"list:{job.type}"

    async def turn(self, ended: Sequence[Job], room: int) -> list[Job]:
        return await self.ask(ended, room)
