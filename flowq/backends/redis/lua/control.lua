#!lua flags=allow-oom
-- Change a lane's limit or pause it, at run time: in force for the very next claim, since every delivery passes one.
-- Never touches a token. Safe to send twice. returns: limit in force, -1: none
-- Rules (docs/lease-model.md): R11, R16.
local clock = KEYS[1]  -- <prefix>clock
local lane = ARGV[1]   -- str
local what = ARGV[2]   -- 'limit' | 'reset' | 'pause' | 'resume'
local value = ARGV[3]  -- int: the limit, for 'limit'

--- @include drain
--- @include clock
--- @include bell
--- @include limits
if what == 'limit' then
  redis.call('HSET', P .. 'override', lane, value)
elseif what == 'reset' then
  redis.call('HDEL', P .. 'override', lane)
elseif what == 'pause' then
  redis.call('SADD', P .. 'paused', lane)
else
  redis.call('SREM', P .. 'paused', lane)
end
redis.call('SADD', P .. 'types', lane)
if #pools_of(lane) == 0 and what ~= 'limit' and what ~= 'pause' then redis.call('HDEL', P .. 'limits', lane) end
recompute(lane)
mark(lane)
ring(lane)
redis.call('PUBLISH', P .. 'control', 'limits')
return tonumber(redis.call('HGET', P .. 'limits', lane) or -1)
