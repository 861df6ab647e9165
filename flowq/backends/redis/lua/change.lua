-- Fragment: a change of the lease TTL under a running fleet. Needs: clock.
-- Rules (docs/lease-model.md): R18.
-- clock: `change` = "from to nonce" (ms) while one is under way; `open` = the same once every live member heeds it; `blocker` = a live
-- member that it waits for; `due` = lease clock before which a longer one is not complete. member:<m>: `ttl` = what its worker was
-- configured with; `heard` = the change that it heeds.
-- Until it is complete `ttl` is the larger value (expiry, quarantine, clamp), and every worker reckons with the smaller one.
local function change_of(text)
  local from, to = string.match(text or '', '^%??(%d+) (%d+) ')
  return tonumber(from), tonumber(to)
end

-- a member whose hash says otherwise; nil: all say so. The last in the order of expiry: it renews, and is looked for anew, last
local function dissenter(members, field, value)
  for i = #members, 1, -1 do
    if redis.call('HGET', P .. 'member:' .. members[i], field) ~= value then return members[i] end
  end
end

-- open it once all heed it, complete it once all were configured with the new value; a longer one no sooner than it is long: who was
-- not told of it has been silent for as long, and says so if it is first at a lost clock. Returns what is under way, or false.
-- m: who calls; heard: what it heeds, nil: it is no member. O(1) while somebody else is waited for.
local function advance(c, m, heard)
  local v = redis.call('HMGET', clock, 'change', 'open', 'blocker', 'due')
  local change, blocker = v[1], v[3]
  if not change then return false end
  if heard and heard ~= change and v[2] then redis.call('HDEL', clock, 'open') end -- an older replica may show that it did
  if blocker and blocker ~= m and tonumber(redis.call('ZSCORE', P .. 'members', blocker) or 0) > c.l then return change end
  local members = live_members(c)
  if #members == 0 then return change end -- who joins next may still have the old value
  blocker = dissenter(members, 'heard', change)
  if not blocker then
    redis.call('HSET', clock, 'open', change)
    blocker = dissenter(members, 'ttl', string.match(change, ' (%d+) '))
    if c.l < tonumber(v[4] or 0) then blocker = blocker or members[#members] end
  end
  if blocker then
    redis.call('HSET', clock, 'blocker', blocker)
    return change
  end
  local _, to = change_of(change)
  c.ttl = to
  redis.call('HSET', clock, 'ttl', to)
  redis.call('HDEL', clock, 'change', 'open', 'blocker', 'due')
  return false
end

-- a fresh nonce each time: an acknowledgement of an earlier change between the same values must not count.
-- A larger value holds on the server at once, also for leases that run: the clamp of the clock grows with it.
local function begin_change(c, from, to, nonce)
  redis.call('HSET', clock, 'change', string.format('%d %d %s', from, to, nonce), 'due', to > from and c.l + to or 0)
  redis.call('HDEL', clock, 'open', 'blocker')
  local larger = math.max(from, to)
  if larger <= c.ttl then return end
  c.ttl = larger
  redis.call('HSET', clock, 'ttl', larger)
  for _, m in ipairs(live_members(c)) do redis.call('ZADD', P .. 'members', 'XX', c.l + larger, m) end
end

-- some member may hold a lease of this length: the quarantine with which this epoch began must have been as long
local function outlast(c, ttl)
  local began = tonumber(redis.call('HGET', clock, 'e') or nil)
  if began and began + ttl > c.q then
    c.q = began + ttl
    redis.call('HSET', clock, 'q', c.q)
  end
end
