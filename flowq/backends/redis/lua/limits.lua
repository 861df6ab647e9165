-- Fragment: the limit in force = paused ? 0 : override, else the least that live pools declare. Needs: bell fragment.
-- A lane that nobody serves keeps its last limit: nothing can start there, and `status` goes on showing it.
local function recompute(lane)
  local force = redis.call('HGET', P .. 'override', lane)
  if redis.call('SISMEMBER', P .. 'paused', lane) == 1 then
    force = '0'
  elseif not force then
    local pools = pools_of(lane)
    if #pools == 0 then return end
    for _, p in ipairs(pools) do
      local declared = string.match(redis.call('HGET', P .. 'pool:' .. p, lane) or '', '^(%d+)|')
      if declared and (not force or tonumber(declared) < tonumber(force)) then force = declared end
    end
  end
  if force then
    redis.call('HSET', P .. 'limits', lane, force)
  else
    redis.call('HDEL', P .. 'limits', lane)
  end
end
