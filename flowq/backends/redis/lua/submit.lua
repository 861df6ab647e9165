#!lua
-- Store a batch of jobs, all or nothing, once (P6). The one script that a full memory refuses: nothing is stored then.
-- The entries of a batch in one lane have consecutive ids, so its marker holds one id a group.
-- returns: per group: (0) the first entry id, (1) {job id, '1' created | '0' key taken, …}
-- Rules (docs/lease-model.md): R12, R16, R17.
local clock = KEYS[1]  -- <prefix>clock
local batch = ARGV[1]  -- str: random, names this batch
local keep = ARGV[2]   -- int: ms for which a resend is recognised
local rest = 3         -- ARGV[3..]: groups: lane, 0, count, envelope … | lane, 1, count, (delay ms, at ms, key, envelope) …

--- @include clock
--- @include bell
--- @include delayed
--- @include finish
--- @include arrive
local marker = P .. 'once:' .. batch
local seen = redis.call('GET', marker)
if seen then return cjson.decode(seen) end
-- before anything is written: an error later on would leave a part of the batch without its marker, and a resend would double it
local at = rest
while at <= #ARGV do
  if is_foreign(ARGV[at]) then return redis.error_reply('WRONGTYPE a foreign value lies in ' .. P .. 's:' .. ARGV[at]) end
  at = at + 3 + tonumber(ARGV[at + 2]) * (ARGV[at + 1] == '0' and 1 or 4)
end
local c = tick()
save(c)

local function store(lane, delay, at, key, envelope)
  if key ~= '' then
    local first = redis.call('GET', P .. 'u:' .. lane .. ':' .. key)
    if first then return first, '0' end
  end
  local due = math.max(delay, at > 0 and at - c.now or 0)
  local id
  if due > 0 then
    id = store_delayed(c, lane, due, envelope)
  else
    id = lane .. ':' .. redis.call('XADD', P .. 's:' .. lane, '*', 'd', envelope)
  end
  if key ~= '' then redis.call('SET', P .. 'u:' .. lane .. ':' .. key, id) end
  return id, '1'
end

local reply, i = {}, rest
while i <= #ARGV do
  local lane, kind, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local stored = n
  local s = P .. 's:' .. lane
  i = i + 3
  if kind == '0' then
    local first = redis.call('XADD', s, '*', 'd', ARGV[i])
    local ms, seq = string.match(first, '(%d+)-(%d+)')
    for k = 1, n - 1 do redis.call('XADD', s, ms .. '-' .. (seq + k), 'd', ARGV[i + k]) end
    i = i + n
    reply[#reply + 1] = first
  else
    local ids = {}
    for _ = 1, n do
      local id, created = store(lane, tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3])
      ids[#ids + 1] = id
      ids[#ids + 1] = created
      if created == '0' then stored = stored - 1 end
      i = i + 4
    end
    reply[#reply + 1] = ids
  end
  arrived(c, lane, stored)
end
redis.call('SET', marker, cjson.encode(reply), 'PX', keep)
return reply
