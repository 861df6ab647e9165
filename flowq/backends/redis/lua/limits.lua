-- Fragment: the limit in force = paused ? 0 : override, else the least that live pools declare. Needs: bell fragment.
-- Rules (docs/lease-model.md): R11.
-- A lane that nobody serves keeps its last limit: nothing can start there, and `status` goes on showing it.
-- the limit but for pauses; nil: none
local function limit_of(lane)
  local limit = redis.call('HGET', P .. 'override', lane) or nil
  if limit then return limit end
  for _, p in ipairs(pools_of(lane)) do
    local declared = string.match(redis.call('HGET', P .. 'pool:' .. p, lane) or '', '^(%d+)|')
    if declared and (not limit or tonumber(declared) < tonumber(limit)) then limit = declared end
  end
  return limit
end

local function recompute(lane)
  local force = limit_of(lane)
  if redis.call('SISMEMBER', P .. 'paused', lane) == 1 then
    force = '0'
  elseif not force and #pools_of(lane) == 0 then
    return
  end
  if force then
    redis.call('HSET', P .. 'limits', lane, force)
  else
    redis.call('HDEL', P .. 'limits', lane)
  end
end
