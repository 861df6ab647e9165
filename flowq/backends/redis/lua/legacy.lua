#!lua
-- Take tasks of the old layout (a sorted set of ids, a hash for each) into streams and timers, in the set's order, a chunk a call. Each
-- leaves the set in the step in which its job is stored, so several movers, and one that died, can go on with what is left. What cannot become a
-- job goes to `legacy:audit`, with the reason and its score. JSON is taken as text and never written anew.
-- returns: {left in the set, id, what became of it, job id or reason, lane, …}: 'ready' | 'delayed' | 'audit'
-- Rules (docs/lease-model.md): R12, R16, R17.
local clock = KEYS[1]             -- <prefix>clock
local pending_key = ARGV[1]       -- str: the old sorted set
local task_key = ARGV[2]          -- str: an old hash's key, with {id} in it
local task_field = ARGV[3]        -- str: the field that names the task
local args_field = ARGV[4]        -- str: the field with its positional arguments, a JSON array
local kwargs_field = ARGV[5]      -- str: the field with its named ones, a JSON object
local meaning = ARGV[6]           -- 'due s' | 'due ms': the score is when it may start; 'high' | 'low': a priority, and which goes first
local most = tonumber(ARGV[7])    -- int: tasks of one call
local max_bytes = tonumber(ARGV[8])  -- int: of an envelope
local first = tonumber(ARGV[9])   -- int: where a dry run begins; -1: it is none, and the chunk is moved
local rest = 10                   -- ARGV[10..]: (old name, new name) …

--- @include clock
--- @include bell
--- @include delayed
--- @include finish
--- @include arrive
local renamed = {}
for i = rest, #ARGV, 2 do renamed[ARGV[i]] = ARGV[i + 1] end

local function json_of(text, opening, what)
  if not text or text == '' then return nil end
  local ok, value = pcall(cjson.decode, text)
  if not ok or type(value) ~= 'table' or string.match(text, '^%s*(.)') ~= opening then
    return nil, 'its field ' .. what .. ' is no JSON ' .. (opening == '[' and 'array' or 'object')
  end
  return text
end

-- lane and envelope of an old task; or nil and why there is none
local function job_from(id)
  local key = string.gsub(task_key, '{id}', function() return id end)
  local fields = redis.pcall('HMGET', key, task_field, args_field, kwargs_field)
  if fields.err then return nil, 'what lies at ' .. key .. ' is no hash' end
  if not fields[1] then
    if redis.call('EXISTS', key) == 0 then return nil, 'there is no hash ' .. key end
    return nil, 'its hash has no field ' .. task_field
  end
  local lane = renamed[fields[1]] or fields[1]
  if not string.match(lane, '^[%w_.-]+$') or #lane > 100 then return nil, 'no task can be called ' .. lane .. ': map it to another name' end
  local args, wrong = json_of(fields[2], '[', args_field)
  if wrong then return nil, wrong end
  local kwargs, wrong_too = json_of(fields[3], '{', kwargs_field)
  if wrong_too then return nil, wrong_too end
  if not args and not kwargs then return nil, 'its hash has neither ' .. args_field .. ' nor ' .. kwargs_field end
  local envelope = '{"v":1,"task":"' .. lane .. '","args":' .. (args or '[]') .. (kwargs and ',"kwargs":' .. kwargs or '') .. '}'
  if #envelope > max_bytes then return nil, 'its job would have ' .. #envelope .. ' bytes, the most is ' .. max_bytes end
  if is_foreign(lane) then return nil, 'a foreign value lies in ' .. P .. 's:' .. lane end
  return lane, envelope
end

local is_dry, c = first >= 0, tick()
if not is_dry then save(c) end

local function due_of(score)
  if meaning == 'due s' then return score * 1000 - c.now end
  if meaning == 'due ms' then return score - c.now end
  return 0
end

local function store(lane, envelope, delay)
  if delay < 1 then return 'ready', lane .. ':' .. redis.call('XADD', P .. 's:' .. lane, '*', 'd', envelope) end
  return 'delayed', store_delayed(c, lane, math.floor(delay), envelope)
end

local from = is_dry and first or 0
local rows = redis.call(meaning == 'high' and 'ZREVRANGE' or 'ZRANGE', pending_key, from, from + most - 1, 'WITHSCORES')
local reply, lanes = {0}, {}
for i = 1, #rows, 2 do
  local id, score = rows[i], rows[i + 1]
  local lane, envelope = job_from(id)
  local what, said = 'audit', envelope
  if lane then
    local delay = due_of(tonumber(score))
    what, said = delay < 1 and 'ready' or 'delayed', ''
    if not is_dry then
      what, said = store(lane, envelope, delay)
      redis.call('HSET', P .. 'legacy:moved', id, score .. '|' .. said)
      lanes[lane] = (lanes[lane] or 0) + 1
    end
  elseif not is_dry then
    redis.call('HSET', P .. 'legacy:audit', id, score .. '|' .. said)
  end
  if not is_dry then redis.call('ZREM', pending_key, id) end
  for _, word in ipairs({id, what, said, lane or ''}) do reply[#reply + 1] = word end
end
for lane, n in pairs(lanes) do arrived(c, lane, n) end
reply[1] = redis.call('ZCARD', pending_key)
return reply
