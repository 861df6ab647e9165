#!lua flags=no-writes
-- Look at the app as a whole, about once a minute a worker: what no reply of the hot path tells. Reads only.
-- Of all live members the first by name speaks for the fleet; only its look goes over the lanes.
-- returns: {'1' speaks|'0', Unix ms, used memory, maxmemory, dead letters, [lane, limit, …], [lane, override, …], [paused lane, …],
--   [lane, '1' served|'0', entries, age ms|-1, limits declared ("3 -"; "-": none), …], [lane with a foreign value, …]}
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]           -- <prefix>clock
local m = ARGV[1]               -- str: member
local most = tonumber(ARGV[2])  -- int: lanes that are looked at

--- @include clock
--- @include bell
local c = tick()

local first
for _, name in ipairs(live_members(c)) do
  if not first or name < first then first = name end
end
local speaks = first == m

-- entries, and the age of the oldest one if nobody serves the lane; nil: a foreign value lies there
local function look_at(lane, served)
  local n = redis.pcall('XLEN', P .. 's:' .. lane)
  if type(n) == 'table' then return nil end
  local head = n > 0 and not served and redis.call('XRANGE', P .. 's:' .. lane, '-', '+', 'COUNT', 1)[1]
  return n, head and math.max(0, c.now - tonumber(string.match(head[1], '^%d+'))) or -1
end

local function declared(lane)
  local seen, said = {}, {}
  for _, p in ipairs(pools_of(lane)) do
    local limit = string.match(redis.call('HGET', P .. 'pool:' .. p, lane) or '', '^%d*')
    if limit == '' then limit = '-' end
    if not seen[limit] then
      seen[limit] = true
      said[#said + 1] = limit
    end
  end
  return table.concat(said, ' ')
end

local lanes, foreign, looked = {}, {}, 0
for _, lane in ipairs(speaks and redis.call('SMEMBERS', P .. 'types') or {}) do
  local served = #pools_of(lane) > 0
  local n, age = look_at(lane, served)
  if not n then
    foreign[#foreign + 1] = lane
  elseif looked < most then
    looked = looked + 1
    for _, v in ipairs({lane, served and '1' or '0', n, age, declared(lane)}) do lanes[#lanes + 1] = v end
  end
end
local info = redis.call('INFO', 'memory')
return {
  speaks and '1' or '0', string.format('%.0f', c.now), string.match(info, 'used_memory:(%d+)') or '0',
  string.match(info, 'maxmemory:(%d+)') or '0', redis.call('XLEN', P .. 'dead'), redis.call('HGETALL', P .. 'limits'),
  redis.call('HGETALL', P .. 'override'), redis.call('SMEMBERS', P .. 'paused'), lanes, foreign,
}
