#!lua flags=allow-oom
-- Cancel a job: one that has not started is removed and recorded; a running one's worker is told. Safe to send twice.
-- returns: 'removed' | 'requested' | 'already_done' | 'unknown'
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]       -- <prefix>clock
local id = ARGV[1]          -- str: job id
local reason = ARGV[2]      -- str
local record = ARGV[3]      -- str: JSON record of a cancelled job
local ttl = tonumber(ARGV[4])  -- int: ms that the record is kept

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include finish
--- @include adopt
--- @include where
local state, lane, entry = where(id)
if not state then
  return redis.call('EXISTS', P .. 'r:' .. id) == 1 and 'already_done' or 'unknown'
end
local c = tick()
if c.ttl > 0 then save(c) end
if state == 'delayed' then
  local envelope = string.match(redis.call('HGET', P .. 'delayed:d', id) or '', '^[^|]*|(.*)$') or ''
  drop_delayed(id, lane, envelope, record, ttl)
elseif state == 'ready' then
  local _, key, moved = job_of(lane, entry, envelope_of(lane, entry) or '')
  remove(lane, {entry})
  finish(id, record, ttl, key, moved)
  -- it may have been handed back, and with nobody left to claim nobody else would forget that
  if pending(lane) == 0 then forgive(lane) end
else
  redis.call('HSET', P .. 'cancels', lane .. '|' .. entry, reason)
  redis.call('PUBLISH', P .. 'control', 'cancel')
  return 'requested'
end
count(lane, c.now, 'cancelled', 1)
return 'removed'
