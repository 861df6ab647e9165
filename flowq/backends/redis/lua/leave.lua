#!lua flags=allow-oom
-- End a membership: only with no body running and no outcome unsent. Safe to send twice.
-- Rings every lane that may have work: a ring that this member's reader swallowed on its way out is passed on.
-- returns: {'OK', handed back}
-- Rules (docs/lease-model.md): R10, R16.
local clock = KEYS[1]  -- <prefix>clock
local m = ARGV[1]      -- str: member

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include handback
local c = tick()
local pool = redis.call('HGET', P .. 'member:' .. m, 'pool')
if not pool then return {'OK', 0} end
local n = 0
for _, lane in ipairs(redis.call('HKEYS', P .. 'pool:' .. pool)) do n = n + hand_back_unknown(lane, m, {}) end
local ready = redis.call('SMEMBERS', P .. 'ready:' .. pool)
bury(m, c.l)
for _, lane in ipairs(ready) do
  if has_room(lane) or redis.call('SISMEMBER', P .. 'orphans', lane) == 1 then ring(lane) end
end
save(c)
return {'OK', n}
