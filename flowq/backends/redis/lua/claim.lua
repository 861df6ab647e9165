#!lua flags=allow-oom
-- Take jobs to run: message and token in one step. Every delivery of the app passes here, so a limit holds exactly.
-- Per lane: adopt what the dead own while held < limit, then read new entries while used < limit; used = entries in flight.
-- A lost reply is repaired by `mine`; sent twice it grants twice. O(lanes that may have work).
-- returns: {'LOST'} | {'STALE'} | {'EPOCH', epoch} |
--   {'OK', epoch, first fence, next due ms|-1, next expiry ms|-1, quarantine ms, jobs ended,
--    [lane, limit, …], [lane, count, entry, envelope, …, lane, …] new with n = 1, [lane, entry, n, crashes, envelope, …] adopted,
--    1: work was left to others although this member has room} (flat lists: Redis 6.2 writes each nested one by itself)
-- Rules (docs/lease-model.md): R1, R6, R13, R14, R15, R16, R17.
local clock = KEYS[1]                  -- <prefix>clock
local m = ARGV[1]                      -- str: member
local session = tonumber(ARGV[2])      -- int: of the connection that sends
local epoch = ARGV[3]                  -- str: epoch in which this member was last confirmed
local seen = tonumber(ARGV[4])         -- int: highest fence that this member has seen
local room = tonumber(ARGV[5])         -- int: free consumers
local threads = tonumber(ARGV[6])      -- int: free threads, for lanes of sync tasks
local turn = tonumber(ARGV[7])         -- int: rotates the order of lanes
local pass_on = ARGV[8]                -- '1': ring the pool again, the caller was woken without room
local rest = 9                         -- ARGV[9..]: (lane, extra): unlimited lanes that may be taken beyond room, each its share

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include finish
--- @include adopt
--- @include delayed
local c = tick()
bury_expired(c.l)
local expiry = redis.call('ZSCORE', P .. 'members', m)
if c.ttl == 0 or not expiry or tonumber(expiry) <= c.l then
  if c.ttl > 0 then save(c) end
  -- the settle before it may have freed a token, and left the ringing to this claim
  local former = redis.call('HGET', P .. 'member:' .. m, 'pool')
  if former and redis.call('SISMEMBER', P .. 'pools', former) == 1 then ring_pool(former) end
  return {'LOST'}
end
if redis.call('ZSCORE', P .. 'members', '') == false or c.ep ~= epoch then
  save(c)
  return {'EPOCH', c.ep or ''}
end
local me = P .. 'member:' .. m
local mine = redis.call('HMGET', me, 'sess', 'pool')
if session < tonumber(mine[1] or 0) then return {'STALE'} end
promote_due(c)

local pool = mine[2]
local others = redis.call('ZCARD', P .. 'members') > 2
local ready = redis.call('SMEMBERS', P .. 'ready:' .. pool)
local has_orphans = redis.call('EXISTS', P .. 'orphans') == 1
local extra, granted, ended = {}, 0, 0
for i = rest, #ARGV, 2 do extra[ARGV[i]] = tonumber(ARGV[i + 1]) end
local limits, fresh, adopted, short, withheld = {}, {}, {}, {}, false
local spare = 8 -- shares beyond room that this claim may still give out (SPREAD of _core/prefetch)

-- the group is gone although this app made it: the server forgot (W10)
local function group_lost(lane)
  redis.call('XLEN', P .. 's:' .. lane) -- a foreign value in its place is no lost group: it is an error, before anything is forgotten
  begin_epoch(c, m)
  redis.call('XGROUP', 'CREATE', P .. 's:' .. lane, 'flowq', '0', 'MKSTREAM')
  mark(lane)
  save(c)
end

-- others wait for this lane: leave them their part of what those hold who contend for it (CORRECTIONS 1.1). The parts add up to at
-- least what is there, so with an idle token some contender is below its own. A mark counts for 1.5 s: its member may be dead.
local function fair(lane, limit, take)
  local contend, n, mine_held, rest = {[m] = true}, 1, 0, 0
  for _, h in ipairs(redis.call('ZRANGEBYSCORE', P .. 'hungry:' .. lane, c.l - 1500, c.l)) do
    contend[h], n = true, n + 1
  end
  if n == 1 then return take end
  for _, pair in ipairs(redis.call('XPENDING', P .. 's:' .. lane, 'flowq')[4] or {}) do
    if pair[1] == m then
      mine_held = tonumber(pair[2])
    elseif not contend[pair[1]] then
      rest = rest + tonumber(pair[2])
    end
  end
  return math.min(take, math.max(0, math.ceil((limit - rest) / n) - mine_held))
end

-- this member has room although work was left; old marks go, also those of a clock that was lost
local function mark_hungry(lane)
  local hungry = P .. 'hungry:' .. lane
  redis.call('ZREMRANGEBYSCORE', hungry, '-inf', c.l - 1501)
  redis.call('ZREMRANGEBYSCORE', hungry, '(' .. c.l, '+inf')
  redis.call('ZADD', hungry, c.l, m)
  redis.call('PEXPIRE', hungry, 60000)
end

-- read up to `take` new entries; returns how many there were
local function read_new(lane, take)
  local read = redis.call('XREADGROUP', 'GROUP', 'flowq', m, 'COUNT', take, 'STREAMS', P .. 's:' .. lane, '>')
  if not read then return 0 end
  local entries, at = read[1][2], #fresh
  fresh[at + 1], fresh[at + 2] = lane, #entries
  for i, e in ipairs(entries) do
    fresh[at + 1 + 2 * i] = e[1]
    fresh[at + 2 + 2 * i] = e[2][1] == 'd' and e[2][2] or body_of(e[2])
  end
  return #entries
end

-- one lane's part of the claim; returns false if the group is lost
local function take_from(lane, limit, policy)
  local s = P .. 's:' .. lane
  local max_crashes, sync, ttl = string.match(policy, '^%d*|(%d*)|(%d*)|(%d*)')
  local most = sync == '1' and math.min(threads, room) or room
  local within = math.max(0, most)
  most = within + (not limit and extra[lane] and math.floor(extra[lane] * math.min(1, spare)) or 0)
  if sync == '1' then redis.call(threads > 0 and 'SREM' or 'SADD', P .. 'full:' .. lane, m) end
  if limit and c.l < c.q then return true end
  if most <= 0 and not others then return true end -- nothing to take, and nobody to ring for
  local used = pending(lane)
  if not used then return false end
  local got = 0
  local left = has_orphans and redis.call('SISMEMBER', P .. 'orphans', lane) == 1
  if left and most > 0 then
    local owners, dead = dead_owners(lane, c.l)
    local can = limit and math.min(most, limit - (used - dead)) or most
    if dead == 0 then
      left = false
    elseif can > 0 then
      local grants, gone
      grants, gone, left = adopt(c, m, lane, owners, can, tonumber(max_crashes), ttl)
      for _, g in ipairs(grants) do
        for _, v in ipairs({lane, g[1], g[2], g[3], g[4]}) do adopted[#adopted + 1] = v end
      end
      ended, used, got, most = ended + gone, used - gone, #grants, most - #grants
    end
    if not left then forgive(lane) end
  end
  local take, capped = limit and math.min(most, limit - used) or most, false
  if others and take > 0 then
    local fairly
    if limit then
      redis.call('ZREM', P .. 'hungry:' .. lane, m)
      fairly = fair(lane, limit, take)
    else
      fairly = math.min(take, math.max(1, math.ceil((redis.call('XLEN', s) - used) / serving(lane))))
    end
    capped = fairly < take
    withheld = withheld or (capped and fairly == 0)
    take = fairly
  end
  local n = take > 0 and read_new(lane, take) or 0
  got = got + n
  granted = granted + got
  room = room - got
  if got > within then spare = spare - (got - within) / extra[lane] end
  if sync == '1' then threads = threads - got end
  if left and others and most <= 0 and (sync ~= '1' or threads > 0) then
    local _, dead = dead_owners(lane, c.l)
    if dead > 0 and (not limit or used - dead < limit) then ring(lane) end
  end
  if limit and got > 0 then
    limits[#limits + 1] = lane
    limits[#limits + 1] = limit
  end
  if take > 0 and n < take then
    if not left then redis.call('SREM', P .. 'ready:' .. pool, lane) end
  elseif others then
    short[#short + 1] = {lane, limit, used + n, capped or most > take, sync == '1'}
  end
  return true
end

if (room > 0 or ARGV[rest]) and #ready > 0 then
  local force = redis.call('HMGET', P .. 'limits', unpack(ready))
  local policies = redis.call('HMGET', P .. 'pool:' .. pool, unpack(ready))
  for i = 0, #ready - 1 do
    local k = (i + turn) % #ready + 1
    if not take_from(ready[k], tonumber(force[k] or nil), policies[k] or '|||86400000') then
      group_lost(ready[k])
      return {'EPOCH', c.ep}
    end
  end
end

-- who still has room although work was left is hungry; who leaves work and a free token wakes somebody (chain)
for _, x in ipairs(short) do
  local lane, limit, used, wanted = x[1], x[2], x[3], x[4]
  local waiting = redis.call('XLEN', P .. 's:' .. lane) - used
  if waiting > 0 and limit and limit > 0 and wanted and room > 0 then
    mark_hungry(lane)
  elseif limit then
    redis.call('ZREM', P .. 'hungry:' .. lane, m)
  end
  -- a sync task is not rung for if every member has its threads full: they would wake each other for ever
  local useful = not x[5] or threads > 0 or redis.call('SCARD', P .. 'full:' .. lane) < serving(lane)
  if waiting > 0 and (not limit or used < limit) and useful then ring(lane) end
end
if pass_on == '1' then ring_pool(pool) end

local fence = math.max(c.f, seen, c.us) + 1
c.f = fence + granted
save(c)
local next_expiry, first = -1, redis.call('ZRANGE', P .. 'members', 0, 1, 'WITHSCORES')
for i = 1, #first, 2 do
  if first[i] ~= m and first[i] ~= '' and next_expiry < 0 then next_expiry = math.max(0, tonumber(first[i + 1]) - c.l) end
end
return {'OK', c.ep, string.format('%.0f', fence), next_due(c), next_expiry, math.max(0, c.q - c.l), ended, limits, fresh, adopted,
  withheld and 1 or 0}
