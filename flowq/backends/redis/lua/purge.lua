#!lua flags=allow-oom
-- Drop jobs of a lane that have not started, as `cancel` would each of them; running ones are not touched. Safe to send twice.
-- returns: jobs dropped
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]          -- <prefix>clock
local lane = ARGV[1]           -- str
local record = ARGV[2]         -- str: JSON record of a cancelled job
local ttl = tonumber(ARGV[3])  -- int: ms that the record is kept
local until_ = ARGV[4]         -- str: last entry that is looked at for ready jobs; '' looks at none
local most = tonumber(ARGV[5]) -- int: ready jobs of one call
local rest = 6                 -- ARGV[6..]: ids of delayed jobs of this lane

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include finish
local c = tick()
if c.ttl > 0 then save(c) end
local s, dropped = P .. 's:' .. lane, 0

for i = rest, #ARGV do
  local id = ARGV[i]
  local of, envelope = string.match(redis.call('HGET', P .. 'delayed:d', id) or '', '^([^|]*)|(.*)$')
  if of == lane then
    drop_delayed(id, lane, envelope, record, ttl)
    dropped = dropped + 1
  end
end

-- handed back by somebody who left, then never delivered: up to `most` rows of the stream
local function ready_rows()
  local rows, group = {}, nil
  for _, g in ipairs(redis.call('EXISTS', s) == 1 and redis.call('XINFO', 'GROUPS', s) or {}) do
    if g[2] == 'flowq' then group = g end
  end
  for _, e in ipairs(group and redis.call('XPENDING', s, 'flowq', '-', '+', most, '-') or {}) do
    rows[#rows + 1] = redis.call('XRANGE', s, e[1], e[1])[1]
  end
  local from = group and group[8] ~= '0-0' and '(' .. group[8] or '-'
  if #rows < most then
    for _, row in ipairs(redis.call('XRANGE', s, from, until_, 'COUNT', most - #rows)) do rows[#rows + 1] = row end
  end
  return rows
end

if until_ ~= '' then
  local ids = {}
  for _, row in ipairs(ready_rows()) do
    local id, key, moved = job_of(lane, row[1], body_of(row[2]))
    finish(id, record, ttl, key, moved)
    ids[#ids + 1] = row[1]
  end
  if #ids > 0 then
    redis.call('XACK', s, 'flowq', unpack(ids))
    redis.call('XDEL', s, unpack(ids))
    forget(lane, ids)
    if pending(lane) == 0 then forgive(lane) end
    dropped = dropped + #ids
  end
end
if dropped > 0 then count(lane, c.now, 'cancelled', dropped) end
return dropped
