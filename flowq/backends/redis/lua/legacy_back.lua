#!lua flags=allow-oom
-- Give jobs that came from the old layout back to it, as far as nobody has started them: never delivered, or delayed and not yet due for
-- the first time. Each leaves its stream or the timers in the step in which its id is in the old set again. Safe to send twice.
-- returns: {id, 'back' | 'begun' (it was delivered, or has ended) | 'unknown' (it did not come from there, or is back already), …}
-- Rules (docs/lease-model.md): R12.
local clock = KEYS[1]        -- <prefix>clock
local pending_key = ARGV[1]  -- str: the old sorted set
local is_dry = ARGV[2]       -- '1': tell, and change nothing
local rest = 3               -- ARGV[3..]: old ids

--- @include drain
--- @include clock
--- @include bell
--- @include finish
-- the highest entry that was ever delivered of a lane
local delivered_cache = {}
local function delivered(lane)
  if not delivered_cache[lane] then
    local last = '0-0'
    for _, g in ipairs(redis.call('EXISTS', P .. 's:' .. lane) == 1 and redis.call('XINFO', 'GROUPS', P .. 's:' .. lane) or {}) do
      if g[2] == 'flowq' then last = g[8] end
    end
    delivered_cache[lane] = last
  end
  return delivered_cache[lane]
end

local function is_after(a, b)
  local ams, aseq = place(a)
  local bms, bseq = place(b)
  return ams > bms or (ams == bms and aseq > bseq)
end

local function is_first_attempt(envelope)
  local ok, job = pcall(cjson.decode, envelope)
  return ok and type(job) == 'table' and job.attempt == nil
end

local function take_delayed(job, envelope)
  if not is_first_attempt(envelope) then return false end
  if is_dry ~= '1' then
    redis.call('ZREM', P .. 'delayed', job)
    redis.call('HDEL', P .. 'delayed:d', job)
    finish(job, '', 0, '', true)
  end
  return true
end

local function take_ready(job, lane, entry, moved)
  if not is_after(entry, delivered(lane)) then return false end
  local row = redis.call('XRANGE', P .. 's:' .. lane, entry, entry)[1]
  if not row or not is_first_attempt(body_of(row[2])) then return false end
  if is_dry ~= '1' then
    redis.call('XDEL', P .. 's:' .. lane, entry)
    finish(job, '', 0, '', moved)
  end
  return true
end

-- takes the job out if it has not started; is it so?
local function take_back(job)
  local lane, entry = string.match(job, '^(.*):([^:]*)$')
  if string.sub(entry, 1, 1) ~= 'd' then return take_ready(job, lane, entry, false) end
  local row = redis.call('HGET', P .. 'delayed:d', job)
  if row then return take_delayed(job, string.match(row, '^[^|]*|(.*)$')) end
  local promoted = redis.call('HGET', P .. 'moved', job)
  return promoted and take_ready(job, lane, promoted, true) or false
end

local reply = {}
for i = rest, #ARGV do
  local id, what = ARGV[i], 'unknown'
  local row = redis.call('HGET', P .. 'legacy:moved', id)
  if row then
    local score, job = string.match(row, '^([^|]*)|(.*)$')
    what = take_back(job) and 'back' or 'begun'
    if what == 'back' and is_dry ~= '1' then
      redis.call('ZADD', pending_key, score, id)
      redis.call('HDEL', P .. 'legacy:moved', id)
    end
  end
  reply[#reply + 1] = id
  reply[#reply + 1] = what
end
return reply
