#!lua flags=allow-oom
-- Read a job's record, or be told when it ends: the channel is registered in the same step, so no end is missed.
-- Safe to send twice. returns: {'record', JSON} | {'waiting'} | {'unknown'}
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]    -- <prefix>clock
local id = ARGV[1]       -- str: job id
local channel = ARGV[2]  -- str: pub/sub channel to tell; '' only looks

--- @include drain
--- @include clock
--- @include where
local record = redis.call('GET', P .. 'r:' .. id)
if record then return {'record', record} end
-- what has not been seen here of a job that goes by Kafka may be there still
if not where(id) and not string.find(id, '^[^:]+:k%d') then return {'unknown'} end
if channel ~= '' then
  local told = redis.call('HGET', P .. 'waiters', id)
  if not told then
    redis.call('HSET', P .. 'waiters', id, channel)
  elseif not string.find(' ' .. told .. ' ', ' ' .. channel .. ' ', 1, true) then
    redis.call('HSET', P .. 'waiters', id, told .. ' ' .. channel)
  end
end
return {'waiting'}
