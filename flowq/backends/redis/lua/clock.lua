-- Fragment: the app's clocks, and its epochs. Needs: clock.
-- Rules (docs/lease-model.md): R1, R3.
-- t  last TIME, ms            l  lease clock: moves by clamp(TIME step, 0, G), so no step of the server's clock expires a lease
-- w  waiting clock: begins at TIME and moves by max(0, TIME step), so a step back never stalls a retry, time spent down counts,
--    and delayed jobs outlive a lost clock
local P = string.sub(clock, 1, -6)

local function tick()
  local T = redis.call('TIME')
  local now = T[1] * 1000 + math.floor(T[2] / 1000)
  local v = redis.call('HMGET', clock, 't', 'l', 'w', 'q', 'f', 'ep', 'ttl')
  local c = {
    now = now, us = T[1] * 1000000 + T[2], l = tonumber(v[2] or 0), w = tonumber(v[3] or now), q = tonumber(v[4] or 0),
    f = tonumber(v[5] or 0), ep = v[6], ttl = tonumber(v[7] or 0),
  }
  local step = now - tonumber(v[1] or now)
  if step > 0 then
    c.l = c.l + math.min(step, math.floor(c.ttl / 6))
    c.w = c.w + step
  end
  return c
end

local function save(c)
  redis.call('HSET', clock, 't', c.now, 'l', c.l, 'w', c.w, 'f', c.f)
end

-- the server forgot who ran: a quarantine of one lease. A new epoch is a nonce, never a counter: the counter would be rolled back too
local function begin_epoch(c, nonce)
  c.ep = nonce .. '.' .. string.format('%.0f', c.us)
  c.q = c.l + c.ttl
  redis.call('HSET', clock, 'ep', c.ep, 'q', c.q, 'e', c.l)
end

-- whose lease runs; not the sentinel
local function live_members(c)
  return redis.call('ZRANGEBYSCORE', P .. 'members', '(' .. c.l, '(inf')
end
