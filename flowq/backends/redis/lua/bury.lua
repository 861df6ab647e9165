-- Fragment: the end of a member. Needs: limits fragment.
-- Rules (docs/lease-model.md): R6, R17.
-- An expired member frees no token: its entries stay its own until a claim adopts them (an atomic change of owner).
local function drop_pool(p)
  for _, lane in ipairs(redis.call('HKEYS', P .. 'pool:' .. p)) do
    local rest = {}
    for _, q in ipairs(pools_of(lane)) do
      if q ~= p then rest[#rest + 1] = q end
    end
    pools_cache[lane] = rest
    if #rest == 0 then
      redis.call('HDEL', P .. 'serve', lane)
    else
      redis.call('HSET', P .. 'serve', lane, table.concat(rest, ' '))
      recompute(lane)
    end
  end
  redis.call('DEL', P .. 'pool:' .. p, P .. 'ready:' .. p, P .. 'bell:' .. p)
  redis.call('SREM', P .. 'pools', p)
end

local function owes_nothing(m)
  redis.call('ZREM', P .. 'expired', m)
  redis.call('DEL', P .. 'member:' .. m)
end

-- take m out of the fleet; lanes where it still owns entries become orphans
local function bury(m, l)
  local p = redis.call('HGET', P .. 'member:' .. m, 'pool')
  redis.call('ZREM', P .. 'members', m)
  local owes = 0
  for _, lane in ipairs(p and redis.call('HKEYS', P .. 'pool:' .. p) or {}) do
    local s = P .. 's:' .. lane
    redis.call('SREM', P .. 'full:' .. lane, m)
    local own = redis.pcall('XPENDING', s, 'flowq', '-', '+', 1, m)
    if not own.err then
      if #own > 0 then
        owes = owes + 1
        redis.call('HSET', P .. 'member:' .. m, 'o:' .. lane, 1)
        redis.call('SADD', P .. 'orphans', lane)
        mark(lane)
        ring(lane)
      else
        redis.call('HDEL', P .. 'member:' .. m, 'o:' .. lane)
        redis.call('XGROUP', 'DELCONSUMER', s, 'flowq', m)
      end
    else
      mark(lane)
      ring(lane)
    end
  end
  if owes == 0 then
    owes_nothing(m)
  else
    redis.call('HSET', P .. 'member:' .. m, 'owes', owes)
    redis.call('ZADD', P .. 'expired', l, m)
  end
  if p then
    redis.call('SREM', P .. 'pm:' .. p, m)
    if redis.call('SCARD', P .. 'pm:' .. p) == 0 then drop_pool(p) end
  end
end

-- m owns nothing more in this lane
local function settle_debt(lane, m)
  if m == '-' then return end
  if redis.call('ZSCORE', P .. 'members', m) then return end -- expired, not yet buried: bury counts what it owes
  redis.call('XGROUP', 'DELCONSUMER', P .. 's:' .. lane, 'flowq', m)
  local paid = redis.call('HDEL', P .. 'member:' .. m, 'o:' .. lane) == 1
  if paid and redis.call('HINCRBY', P .. 'member:' .. m, 'owes', -1) <= 0 then owes_nothing(m) end
end

-- no dead member owns anything in this lane, those included whose last entry ended otherwise than by adoption
local function forgive(lane)
  redis.call('SREM', P .. 'orphans', lane)
  for _, m in ipairs(redis.call('ZRANGE', P .. 'expired', 0, 999)) do settle_debt(lane, m) end
end

local function bury_expired(l)
  local ripe = redis.call('ZRANGEBYSCORE', P .. 'members', '-inf', l, 'LIMIT', 0, 8)
  for _, m in ipairs(ripe) do bury(m, l) end
end
