-- Fragment: who serves a lane, the hint that it may have work, and the doorbell. Needs: clock fragment.
-- Rules (docs/lease-model.md): R16, R17.
-- Invariant: a lane with backlog or with something to adopt is in ready:<pool> of every pool that serves it.
local pools_cache, rung = {}, {}

local function pools_of(lane)
  local found = pools_cache[lane]
  if not found then
    found = {}
    for p in string.gmatch(redis.call('HGET', P .. 'serve', lane) or '', '%S+') do found[#found + 1] = p end
    pools_cache[lane] = found
  end
  return found
end

local function mark(lane)
  for _, p in ipairs(pools_of(lane)) do redis.call('SADD', P .. 'ready:' .. p, lane) end
end

local function ring_pool(p)
  if not rung[p] then
    rung[p] = true
    redis.call('XADD', P .. 'bell:' .. p, 'MAXLEN', 8, '*', 'r', 1)
  end
end

local function ring(lane)
  for _, p in ipairs(pools_of(lane)) do ring_pool(p) end
end

local function serving(lane)
  local n = 0
  for _, p in ipairs(pools_of(lane)) do n = n + redis.call('SCARD', P .. 'pm:' .. p) end
  return n
end

-- something of somebody else's lies where this lane's jobs should
local function is_foreign(lane)
  return type(redis.pcall('XLEN', P .. 's:' .. lane)) == 'table'
end

-- entries in flight: the tokens in use; nil: the group is not there
local function pending(lane)
  local g = redis.pcall('XINFO', 'GROUPS', P .. 's:' .. lane)
  if g.err or not g[1] then return nil end
  return g[1][6]
end

local function backlog(lane)
  return redis.call('XLEN', P .. 's:' .. lane) - (pending(lane) or 0)
end

local function has_room(lane)
  local limit = redis.call('HGET', P .. 'limits', lane)
  return not limit or (pending(lane) or 0) < tonumber(limit)
end
