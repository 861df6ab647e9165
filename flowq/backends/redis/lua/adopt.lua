-- Fragment: what the dead own, and taking it over (W1–W3). Needs: bury and finish fragments.
-- Rules (docs/lease-model.md): R6, R15.
-- entries of this lane whose owner is not live, by owner; and how many
local function dead_owners(lane, l)
  local owners, total = {}, 0
  local summary = redis.call('XPENDING', P .. 's:' .. lane, 'flowq')
  for _, pair in ipairs(summary[4] or {}) do
    local expiry = redis.call('ZSCORE', P .. 'members', pair[1])
    if not expiry or tonumber(expiry) <= l then
      owners[#owners + 1] = {pair[1], tonumber(pair[2])}
      total = total + tonumber(pair[2])
    end
  end
  return owners, total
end

local function earlier(a, b)
  local ams, aseq = string.match(a[1], '(%d+)-(%d+)')
  local bms, bseq = string.match(b[1], '(%d+)-(%d+)')
  if ams ~= bms then return tonumber(ams) < tonumber(bms) end
  return tonumber(aseq) < tonumber(bseq)
end

-- up to `most` entries of the dead, oldest first over all owners: {id, owner, n}
local function orphans_of(lane, owners, most)
  local found = {}
  for _, o in ipairs(owners) do
    for _, e in ipairs(redis.call('XPENDING', P .. 's:' .. lane, 'flowq', '-', '+', most, o[1])) do
      found[#found + 1] = {e[1], o[1], e[4]}
    end
  end
  table.sort(found, earlier)
  return found
end

local function envelope_of(lane, entry)
  local row = redis.call('XRANGE', P .. 's:' .. lane, entry, entry)
  return row[1] and body_of(row[1][2])
end

-- an entry that took its workers down too often, or was cancelled while its worker died: it ends here
local function end_orphan(c, lane, entry, kind, reason, ttl)
  local envelope = envelope_of(lane, entry) or ''
  local id, key, moved = job_of(lane, entry, envelope)
  local record = kind == 'cancelled' and {status = 'cancelled', reason = reason}
    or {status = 'dead', kind = kind, message = reason}
  remove(lane, {entry})
  if kind ~= 'cancelled' then bury_letter(c.now, lane, id, kind, reason, '{}', envelope) end
  finish(id, cjson.encode(record), ttl, key, moved)
  count(lane, c.now, kind == 'cancelled' and 'cancelled' or 'dead', 1)
end

-- adopt what this lane's dead own while there is room; returns the grants {id, n, crashes, envelope}, jobs ended, and whether
-- something adoptable is left. A handed-back entry is no crash. Suspects (one crash short of the end) run one to a member, so
-- that the innocent ones outlive the guilty one.
local function adopt(c, m, lane, owners, most, max_crashes, ttl)
  local grants, ended, left = {}, 0, false
  local s, crashes, me = P .. 's:' .. lane, P .. 'crashes:' .. lane, P .. 'member:' .. m
  local has_cancels = redis.call('EXISTS', P .. 'cancels') == 1
  local took = {}
  for _, e in ipairs(orphans_of(lane, owners, most + 50)) do
    local id, owner = e[1], e[2]
    local crashed = owner == '-' and 0 or 1
    local n = tonumber(redis.call('HGET', crashes, id) or 0) + crashed
    local reason = has_cancels and redis.call('HGET', P .. 'cancels', lane .. '|' .. id)
    if crashed == 1 and reason == false and max_crashes and n >= max_crashes then reason = nil end
    if reason or reason == nil then
      end_orphan(c, lane, id, reason and 'cancelled' or 'crashed', reason or ('its worker died ' .. n .. ' times'), ttl)
      ended = ended + 1
      took[owner] = (took[owner] or 0) + 1
    elseif #grants >= most then
      left = true
    elseif max_crashes and max_crashes > 1 and n == max_crashes - 1 and redis.call('HEXISTS', me, 'suspect') == 1 then
      left = true
    else
      local row = redis.call('XCLAIM', s, 'flowq', m, 0, id)
      took[owner] = (took[owner] or 0) + 1
      if row[1] then
        if crashed == 1 then redis.call('HSET', crashes, id, n) end
        if max_crashes and max_crashes > 1 and n == max_crashes - 1 then redis.call('HSET', me, 'suspect', lane .. '|' .. id) end
        grants[#grants + 1] = {id, e[3] + 1, n, body_of(row[1][2])}
        if crashed == 1 then count(lane, c.now, 'crashed', 1) end
      else
        -- deleted under us by an operator: nothing is left to run
        redis.call('XACK', s, 'flowq', id)
        count(lane, c.now, 'vanished', 1)
      end
    end
  end
  for _, o in ipairs(owners) do
    if (took[o[1]] or 0) >= o[2] then settle_debt(lane, o[1]) else left = true end
  end
  return grants, ended, left
end
