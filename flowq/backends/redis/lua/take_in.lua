#!lua
-- Take in jobs that came by another road (Kafka), in their order and only as long as the lane is not full of waiting ones. A job that
-- is here already, or has ended with a record, is not stored again: so a record that comes twice is one job. Safe to send twice.
-- A full memory refuses it: the job stays where it is. returns: how many of them, from the first on, are taken care of
-- Rules (docs/lease-model.md): R16, R17.
local clock = KEYS[1]           -- <prefix>clock
local lane = ARGV[1]            -- str
local most = tonumber(ARGV[2])  -- int: jobs of the lane that may wait here
local rest = 3                  -- ARGV[3..]: (job id or '', envelope) …

--- @include clock
--- @include bell
--- @include delayed
--- @include finish
--- @include arrive
if is_foreign(lane) then return redis.error_reply('WRONGTYPE a foreign value lies in ' .. P .. 's:' .. lane) end
local c = tick()
save(c)
local room, done, stored = most - backlog(lane), 0, 0
for i = rest, #ARGV, 2 do
  local id = ARGV[i]
  local known = id ~= '' and (redis.call('HEXISTS', P .. 'moved', id) == 1 or redis.call('ZSCORE', P .. 'delayed', id)
    or redis.call('EXISTS', P .. 'r:' .. id) == 1)
  if not known then
    if stored >= room then break end
    local entry = redis.call('XADD', P .. 's:' .. lane, '*', 'd', ARGV[i + 1])
    if id ~= '' then redis.call('HSET', P .. 'moved', id, entry) end
    stored = stored + 1
  end
  done = done + 1
end
if stored > 0 then arrived(c, lane, stored) end
return done
