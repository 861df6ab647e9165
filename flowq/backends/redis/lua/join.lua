#!lua flags=allow-oom
-- Become a member (I8: `old` are this worker's former lives: what of theirs is in `keep` goes on as the new member's,
-- also if its lane has got a limit meanwhile; the rest is handed back uncounted).
-- returns: {'OK', epoch, quarantine ms, indices of keep that moved, change of the lease TTL that is under way or ''} |
--   {'TTL', ms in force, change or ''} | {'WAIT', ms in force, change} not yet | {'LAYOUT', layout}
-- A fresh id per life and per lost reply: the other one expires.
-- Rules (docs/lease-model.md): R1, R2, R11, R17, R18.
local clock = KEYS[1]    -- <prefix>clock
local m = ARGV[1]        -- str: new member id
local nonce = ARGV[2]    -- str: random, names an epoch that begins here
local ttl = tonumber(ARGV[3])     -- int: lease, ms
local layout = ARGV[4]   -- str: layout that this client writes
local virgin_ok = ARGV[5]  -- '1': the caller itself created this server empty
local old = ARGV[6]      -- str: former member ids, the last one and any whose join was not answered; '' for none
local pool = ARGV[7]     -- str: pool id
local facts = ARGV[8]    -- str: JSON for `status`
local nlanes = tonumber(ARGV[9])  -- int: pairs that follow
local heard = ARGV[10]   -- str: change of the lease TTL that this worker was told of, '': none, '?…': told to wait for
local silence = tonumber(ARGV[11])  -- int: ms since this worker was last told whether the lease TTL is being changed, or was started
local rest = 12          -- ARGV[12..]: (lane, policy "limit|max_crashes|sync|failure_ttl") × nlanes, then keep: (lane, entry, n) …

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include forgot
--- @include change
--- @include handback
local c = tick()
local written = redis.call('HGET', clock, 'schema')
if written and written ~= layout then return {'LAYOUT', written} end
local virgin = not c.ep and redis.call('EXISTS', P .. 'members', P .. 'pools') == 0
local was = {}
for id in string.gmatch(old, '%S+') do was[id] = true end
local heard_from, heard_to = change_of(heard)

-- does anybody live, this worker's former lives aside?
local function alone()
  for _, id in ipairs(live_members(c)) do
    if not was[id] then return false end
  end
  return true
end

-- may a worker that was configured with this ttl join? Returns the refusal, nil: yes (R18)
local function refusal()
  local change = advance(c)
  local from, to = change_of(change)
  if ttl == (change and from or c.ttl) then return nil end
  if change and ttl == to then
    if redis.call('HGET', clock, 'open') == change or alone() then return nil end
    return {'WAIT', c.ttl, change}
  end
  if not change and string.match(heard, '^%d') and math.min(ttl, c.ttl) == math.min(heard_from, heard_to) and
      math.max(ttl, c.ttl) == math.max(heard_from, heard_to) then
    begin_change(c, heard_from, heard_to, nonce) -- the server forgot it, or has completed it without this worker
    outlast(c, c.ttl)
    return nil
  end
  if not alone() then return {'TTL', c.ttl, change or ''} end
  outlast(c, math.max(ttl, heard_from or 0, heard_to or 0))
  c.ttl = ttl
  redis.call('HSET', clock, 'ttl', ttl)
  redis.call('HDEL', clock, 'change', 'open', 'blocker', 'due')
end

local LONGEST_LEASE = 60000 -- ms: to more nobody is thought to have raised it unheard; limited tasks wait no longer than that

-- whoever is first on a server that lost its clock says what it knows: the quarantine must outlast the longest lease
local function begin_clock()
  local run, replid = identity()
  redis.call('HSET', clock, 'run', run, 'repl', replid)
  c.ttl = math.max(ttl, heard_from or 0, heard_to or 0)
  redis.call('HSET', clock, 'ttl', c.ttl)
  lose_members(c)
  begin_epoch(c, nonce)
  outlast(c, math.min(silence, LONGEST_LEASE)) -- meanwhile the TTL may have been raised to that
  if heard_from then begin_change(c, heard_from, heard_to, nonce) end
  if virgin and virgin_ok == '1' then
    c.q = 0
    redis.call('HSET', clock, 'q', 0)
    redis.call('HDEL', clock, 'e')
  end
end

if c.ttl == 0 then
  begin_clock()
else
  forgot(c, nonce)
  local refused = refusal()
  if refused then
    save(c)
    return refused
  end
end
local change = redis.call('HGET', clock, 'change') or ''
redis.call('HSET', clock, 'schema', layout)
bury_expired(c.l)

local lanes = {}
for i = 1, nlanes do
  local lane = ARGV[rest + 2 * i - 2]
  lanes[i] = lane
  redis.call('HSET', P .. 'pool:' .. pool, lane, ARGV[rest + 2 * i - 1])
end
if redis.call('SADD', P .. 'pools', pool) == 1 then
  for _, lane in ipairs(lanes) do
    local served = redis.call('HGET', P .. 'serve', lane)
    redis.call('HSET', P .. 'serve', lane, served and (served .. ' ' .. pool) or pool)
    pools_cache[lane] = nil
    recompute(lane)
  end
  redis.pcall('XGROUP', 'CREATE', P .. 'bell:' .. pool, 'flowq', '$', 'MKSTREAM')
end
redis.call('SADD', P .. 'types', unpack(lanes))
redis.call('SADD', P .. 'ready:' .. pool, unpack(lanes))
for _, lane in ipairs(lanes) do
  if redis.call('HEXISTS', clock, 'g:' .. lane) == 0 then
    redis.pcall('XGROUP', 'CREATE', P .. 's:' .. lane, 'flowq', '0', 'MKSTREAM')
    redis.call('HSET', clock, 'g:' .. lane, 1)
  end
end
redis.call('ZADD', P .. 'members', c.l + c.ttl, m)
redis.call('SADD', P .. 'pm:' .. pool, m)
redis.call('HSET', P .. 'member:' .. m, 'sess', 0, 'pool', pool, 'facts', facts, 'started', c.now, 'running', 0, 'ttl', ttl,
  'heard', change)

local moved = {}
for i = rest + 2 * nlanes, #ARGV, 3 do
  local lane, entry, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local own = redis.pcall('XPENDING', P .. 's:' .. lane, 'flowq', entry, entry, 1)
  if not own.err and own[1] and was[own[1][2]] and own[1][4] == n then
    redis.call('XCLAIM', P .. 's:' .. lane, 'flowq', m, 0, entry, 'JUSTID')
    if redis.call('HGET', P .. 'member:' .. own[1][2], 'suspect') == lane .. '|' .. entry then
      redis.call('HSET', P .. 'member:' .. m, 'suspect', lane .. '|' .. entry)
    end
    moved[#moved + 1] = (i - rest - 2 * nlanes) / 3
  end
end
for id in pairs(was) do
  local p = redis.call('HGET', P .. 'member:' .. id, 'pool')
  for _, lane in ipairs(p and redis.call('HKEYS', P .. 'pool:' .. p) or lanes) do hand_back_unknown(lane, id, {}) end
  if redis.call('EXISTS', P .. 'member:' .. id) == 1 then bury(id, c.l) end
  redis.call('ZREM', P .. 'expired', id)
end
save(c)
return {'OK', c.ep, math.max(0, c.q - c.l), moved, change}
