-- Fragment: jobs that are due later. Needs: bell fragment.
-- Rules (docs/lease-model.md): R12, R16, R17.
-- `delayed` zset id -> due on the waiting clock; `delayed:d` hash id -> lane|envelope. One script moves both (R12).
local function put_delayed(id, lane, due, envelope)
  redis.call('ZADD', P .. 'delayed', due, id)
  redis.call('HSET', P .. 'delayed:d', id, lane .. '|' .. envelope)
end

local function next_due(c)
  local head = redis.call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')
  if not head[1] then return -1 end
  return math.max(0, tonumber(head[2]) - c.w)
end

-- at most 100 a call, so that a hundred thousand due at once never block the server; a job of a lane with a foreign value in its
-- place is looked at again after a minute
local function promote_due(c)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', c.w, 'LIMIT', 0, 100)) do
    local row = redis.call('HGET', P .. 'delayed:d', id)
    local lane, envelope = string.match(row or '', '^([^|]*)|(.*)$')
    if lane and is_foreign(lane) then
      redis.call('ZADD', P .. 'delayed', c.w + 60000, id)
    else
      redis.call('ZREM', P .. 'delayed', id)
      redis.call('HDEL', P .. 'delayed:d', id)
      if lane then
        local entry = redis.call('XADD', P .. 's:' .. lane, '*', 'd', envelope)
        redis.call('HSET', P .. 'moved', id, entry)
        mark(lane)
        if has_room(lane) then ring(lane) end
      end
    end
  end
end
