#!lua flags=allow-oom
-- Write what became of deliveries: each only if (member, entry, n, epoch) still owns it. One body's result, ack, retry
-- or dead letter, statistics and wake-ups are one step. A resend finds GONE and changes nothing. No test of liveness: ownership
-- moves atomically, so the owner decides. At most 500 outcomes and about 1 MiB a call.
-- returns: {'OK', index of outcome, 'GONE'|'FENCED', …} (indices count from 0 over the call) | {'EPOCH', epoch}
-- Rules (docs/lease-model.md): R8, R12, R16.
local clock = KEYS[1]      -- <prefix>clock
local m = ARGV[1]          -- str: member
local epoch = ARGV[2]      -- str: epoch in which these deliveries are confirmed
local claiming = ARGV[3]   -- '1': a claim of this member follows in the same write, and rings where it leaves work
local rest = 4             -- ARGV[4..]: groups: kind, lane, count, body ms in all, then per outcome:
                           --   ok (entry, n) · free (entry, n) · end (entry, n, id, what, record, ttl ms, key, moved)
                           --   again (entry, n, id, delay ms, envelope) · dead (entry, n, id, kind, reason, record, ttl ms, key, moved, detail)

--- @include drain
--- @include clock
--- @include bell
--- @include finish
--- @include delayed
--- @include handback
local c = tick()
if c.ep ~= epoch then return {'EPOCH', c.ep or ''} end
local me = P .. 'member:' .. m
local width = {ok = 2, free = 2, ['end'] = 8, again = 5, dead = 10}
local reply, index = {'OK'}, 0

-- which of the outcomes at ARGV[i], i + w, … may be written; the others are refused in the reply
local function owned(lane, i, w, n)
  local s, have, good = P .. 's:' .. lane, {}, {}
  if n > 4 then
    local own = redis.pcall('XPENDING', s, 'flowq', ARGV[i], ARGV[i + (n - 1) * w], 2 * n + 8, m)
    for _, e in ipairs(own.err and {} or own) do have[e[1]] = e[4] end
  end
  for k = 0, n - 1 do
    local at = i + k * w
    local entry, times = ARGV[at], tonumber(ARGV[at + 1])
    if have[entry] == times then
      good[#good + 1] = at
    else
      local own = redis.pcall('XPENDING', s, 'flowq', entry, entry, 1)
      if own.err then mark(lane) end -- the group is gone: the next claim finds that out
      if not own.err and own[1] and own[1][2] == m and own[1][4] == times then
        good[#good + 1] = at
      else
        reply[#reply + 1] = index + k
        reply[#reply + 1] = (own.err or not own[1]) and 'GONE' or 'FENCED'
      end
    end
  end
  index = index + n
  return good
end

local function clear_suspect(lane, entries)
  local suspect = redis.call('HGET', me, 'suspect')
  if not suspect then return end
  for _, e in ipairs(entries) do
    if suspect == lane .. '|' .. e then redis.call('HDEL', me, 'suspect') end
  end
end

local function settled(lane, at, entry)
  tell_waiters(lane .. ':' .. entry)
  return 'succeeded'
end

local write = {
  ok = settled,
  ['end'] = function(lane, at)
    finish(ARGV[at + 2], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7] == '1')
    return ARGV[at + 3]
  end,
  again = function(lane, at)
    local id, delay = ARGV[at + 2], tonumber(ARGV[at + 3])
    local reason = redis.call('HGET', P .. 'cancels', lane .. '|' .. ARGV[at])
    if reason then
      -- it failed while it was asked to stop: it is not run again
      local _, key = job_of(lane, ARGV[at], ARGV[at + 4])
      finish(id, cjson.encode({status = 'cancelled', reason = reason}), 86400000, key, true)
      return 'cancelled'
    end
    if delay > 0 then
      redis.call('HDEL', P .. 'moved', id)
      put_delayed(id, lane, c.w + delay, ARGV[at + 4])
    else
      redis.call('HSET', P .. 'moved', id, redis.call('XADD', P .. 's:' .. lane, '*', 'd', ARGV[at + 4]))
      mark(lane)
    end
    return 'retried'
  end,
  dead = function(lane, at, entry)
    local row = redis.call('XRANGE', P .. 's:' .. lane, entry, entry)
    bury_letter(c.now, lane, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 9], row[1] and body_of(row[1][2]) or '')
    finish(ARGV[at + 2], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8] == '1')
    return 'dead'
  end,
}

local any_waiters = redis.call('EXISTS', P .. 'waiters') == 1
local function settle_group(kind, lane, n, ms, i)
  local entries, tally = {}, {}
  for _, at in ipairs(owned(lane, i, width[kind], n)) do
    local entry, what = ARGV[at], 'succeeded'
    if kind ~= 'free' and (kind ~= 'ok' or any_waiters) then what = write[kind](lane, at, entry) end
    entries[#entries + 1] = entry
    tally[what] = (tally[what] or 0) + 1
  end
  if #entries == 0 then return end
  clear_suspect(lane, entries)
  if kind == 'free' then return hand_back(lane, entries) end
  remove(lane, entries)
  for what, k in pairs(tally) do count(lane, c.now, what, k) end
  if ms > 0 then count(lane, c.now, 'run_ms', ms) end
  if kind == 'again' or (claiming ~= '1' and backlog(lane) > 0) then ring(lane) end
end

local i = rest
while i <= #ARGV do
  local kind, lane, n, ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  settle_group(kind, lane, n, ms, i + 4)
  i = i + 4 + n * width[kind]
end
save(c)
return reply
