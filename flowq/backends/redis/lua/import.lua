#!lua
-- Store jobs that another place exported, each once: what was stored before is found in `imported`, so a chunk may be sent again.
-- A job keeps its id, unless that names a job of this place, or could still come to name one. A full memory refuses the whole chunk.
-- returns: per job: 'stored'|'before'|'there'|'ended'|'taken', and the id: its own here, or that of the job which has its idempotency key
-- Rules (docs/lease-model.md): R12, R16, R17.
local clock = KEYS[1]           -- <prefix>clock
local source = ARGV[1]          -- str: names the place it was exported from
local keep = tonumber(ARGV[2])  -- int: ms for which it is remembered what was stored
local again = ARGV[3]           -- '1': store also what was stored before, or came from here, and has ended
local dry = ARGV[4]             -- '1': only answer
local rest = 5                  -- ARGV[5..]: (lane, id, '1': the id may be kept, due Unix ms|0, key, envelope), …

--- @include clock
--- @include bell
--- @include delayed
--- @include finish
--- @include arrive
--- @include where
for i = rest, #ARGV, 6 do
  if is_foreign(ARGV[i]) then return redis.error_reply('WRONGTYPE a foreign value lies in ' .. P .. 's:' .. ARGV[i]) end
end
local imported = P .. 'imported'
local c = tick()
local is_home = redis.call('HGET', clock, 'place') == source
if dry ~= '1' then save(c) end

-- nobody here has this id, and nobody will: entry ids are made of the server's time, which has passed it
local function is_free(id)
  local ms = tonumber(string.match(id, ':d?(%d+)%-%d+$') or nil)
  return ms and ms < c.now and not where(id) and redis.call('EXISTS', P .. 'r:' .. id) == 0
end

local function store(lane, id, due, envelope)
  local wait = due > 0 and due - c.now or 0
  if wait > 0 then return store_delayed(c, lane, wait, envelope, id) end
  local entry = redis.call('XADD', P .. 's:' .. lane, '*', 'd', id and with_id(id, envelope) or envelope)
  if id then redis.call('HSET', P .. 'moved', id, entry) end
  return id or lane .. ':' .. entry
end

local stored = {}
local function import(lane, id, keeps, due, key, envelope)
  local mark_of = source .. '|' .. id
  local before = redis.call('HGET', imported, mark_of)
  if before and (again ~= '1' or where(before)) then return 'before', before end
  if is_home and where(id) then return 'there', id end
  if is_home and again ~= '1' and redis.call('EXISTS', P .. 'r:' .. id) == 1 then return 'ended', id end
  local name = P .. 'u:' .. lane .. ':' .. key
  local holder = key ~= '' and redis.call('GET', name)
  if holder then return 'taken', holder end
  local own = keeps == '1' and is_free(id) and id or nil
  if dry == '1' then return 'stored', own or '' end
  own = store(lane, own, tonumber(due), envelope)
  if key ~= '' then redis.call('SET', name, own) end
  redis.call('HSET', imported, mark_of, own)
  stored[lane] = (stored[lane] or 0) + 1
  return 'stored', own
end

local reply = {}
for i = rest, #ARGV, 6 do
  local what, id = import(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
  reply[#reply + 1] = what
  reply[#reply + 1] = id
end
for lane, n in pairs(stored) do arrived(c, lane, n) end
if next(stored) then redis.call('PEXPIRE', imported, keep) end
return reply
