-- Fragment: what the end of a job writes beside its entry. Needs: bell fragment.
-- Rules (docs/lease-model.md): R8.
local function count(lane, now, what, n)
  redis.call('HINCRBY', P .. 'stats:' .. lane, what, n)
  local bucket = P .. 'stats:' .. lane .. ':' .. string.format('%.0f', math.floor(now / 60000))
  if redis.call('HINCRBY', bucket, what, n) == n then redis.call('PEXPIRE', bucket, 86400000) end
end

local function tell_waiters(id)
  local channels = redis.call('HGET', P .. 'waiters', id)
  if not channels then return end
  redis.call('HDEL', P .. 'waiters', id)
  for channel in string.gmatch(channels, '%S+') do redis.call('PUBLISH', channel, id) end
end

local function free_key(id, key)
  if key ~= '' and redis.call('GET', P .. 'u:' .. key) == id then redis.call('DEL', P .. 'u:' .. key) end
end

-- the record that a waiter reads; the idempotency key and the row in `moved` end with the job
local function finish(id, record, ttl, key, moved)
  if record ~= '' then redis.call('SET', P .. 'r:' .. id, record, 'PX', ttl) end
  free_key(id, key)
  if moved then redis.call('HDEL', P .. 'moved', id) end
  tell_waiters(id)
end

local function bury_letter(now, lane, id, kind, reason, detail, envelope)
  local dead = P .. 'dead'
  redis.call('XADD', dead, 'MAXLEN', '~', 100000, '*', 'lane', lane, 'id', id, 'kind', kind, 'reason', reason, 'detail', detail,
    'd', envelope)
  redis.call('XTRIM', dead, 'MINID', '~', string.format('%.0f', now - 2592000000))
end

-- the envelope in an entry's fields; of an entry that is none of ours all of it, for its dead letter
local function body_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'd' then return fields[i + 1] end
  end
  return table.concat(fields, ' ')
end

-- id, idempotency key (with its lane) and whether it was moved, of a job in its envelope; a bad envelope has its entry's id
local function job_of(lane, entry, envelope)
  local ok, job = pcall(cjson.decode, envelope)
  if not ok or type(job) ~= 'table' then return lane .. ':' .. entry, '', false end
  local key = type(job.key) == 'string' and (lane .. ':' .. job.key) or ''
  return type(job.id) == 'string' and job.id or (lane .. ':' .. entry), key, type(job.id) == 'string'
end

-- an entry's place in its stream: ids are compared as two numbers, not as text
local function place(entry)
  local ms, seq = string.match(entry, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(seq)
end

-- Take entries that were delivered and acknowledged out of their stream. Entries are delivered in order, so all that lies below the
-- first pending one has been dealt with: those go by one XTRIM, a walk from the head. An XDEL searches its node for each entry.
local function take_off(s, ids)
  if #ids < 4 then
    redis.call('XDEL', s, unpack(ids))
    return
  end
  local first = redis.call('XPENDING', s, 'flowq', '-', '+', 1)[1]
  local until_ms, until_seq = math.huge, 0
  if first then until_ms, until_seq = place(first[1]) end
  local rest, ms, seq = {}, -1, -1
  for _, entry in ipairs(ids) do
    local a, b = place(entry)
    if a > until_ms or (a == until_ms and b > until_seq) then
      rest[#rest + 1] = entry
    elseif a > ms or (a == ms and b > seq) then
      ms, seq = a, b
    end
  end
  if ms >= 0 then redis.call('XTRIM', s, 'MINID', '=', string.format('%.0f-%.0f', ms, seq + 1)) end
  if #rest > 0 then redis.call('XDEL', s, unpack(rest)) end
end

-- what is kept by the ids of entries that go
local function forget(lane, ids)
  if redis.call('EXISTS', P .. 'crashes:' .. lane) == 1 then redis.call('HDEL', P .. 'crashes:' .. lane, unpack(ids)) end
  if redis.call('EXISTS', P .. 'cancels') == 1 then
    for _, e in ipairs(ids) do redis.call('HDEL', P .. 'cancels', lane .. '|' .. e) end
  end
end

-- delivered entries themselves, and what is kept by their ids
local function remove(lane, ids)
  local s = P .. 's:' .. lane
  redis.call('XACK', s, 'flowq', unpack(ids))
  take_off(s, ids)
  forget(lane, ids)
end

-- a delayed job that somebody wants gone
local function drop_delayed(id, lane, envelope, record, ttl)
  local _, key = job_of(lane, '', envelope)
  redis.call('ZREM', P .. 'delayed', id)
  redis.call('HDEL', P .. 'delayed:d', id)
  finish(id, record, ttl, key, true)
end
