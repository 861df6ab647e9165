-- Fragment: jobs that come into a lane, whoever brings them. Needs: bell, delayed and finish fragments.
-- Rules (docs/lease-model.md): R12, R16, R17.
local function with_id(id, envelope)
  return (string.gsub(envelope, '^{', function() return '{"id":"' .. id .. '",' end))
end

-- a job that is due in `wait` ms; its id: the one that is given, or a new one
local function store_delayed(c, lane, wait, envelope, id)
  id = id or lane .. ':d' .. string.format('%.0f', c.now) .. '-' .. redis.call('HINCRBY', clock, 'n', 1)
  put_delayed(id, lane, c.w + wait, with_id(id, envelope))
  if tonumber(redis.call('ZRANK', P .. 'delayed', id)) == 0 then ring(lane) end
  return id
end

-- n jobs are stored
local function arrived(c, lane, n)
  redis.call('SADD', P .. 'types', lane)
  mark(lane)
  if #pools_of(lane) > 0 and has_room(lane) then ring(lane) end
  if n > 0 then count(lane, c.now, 'submitted', n) end
end
