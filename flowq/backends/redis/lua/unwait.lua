#!lua flags=allow-oom
-- Nobody waits for this job on that channel any more. Safe to send twice. returns: 0
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]    -- <prefix>clock
local id = ARGV[1]       -- str: job id
local channel = ARGV[2]  -- str: pub/sub channel

--- @include drain
--- @include clock
local left = {}
for c in string.gmatch(redis.call('HGET', P .. 'waiters', id) or '', '%S+') do
  if c ~= channel then left[#left + 1] = c end
end
if #left == 0 then
  redis.call('HDEL', P .. 'waiters', id)
else
  redis.call('HSET', P .. 'waiters', id, table.concat(left, ' '))
end
return 0
