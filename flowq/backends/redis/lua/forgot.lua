-- Fragment: has the server forgotten? (W9, W11, I2, I3, I11.) Needs: bury fragment.
-- Rules (docs/lease-model.md): R1.
-- Identity = run_id + master_replid. A new replid whose replid2 is all zeros is only a backlog made or freed (a replica attached,
-- a backup was taken): stored, not feared.
local function identity()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local repl = redis.call('INFO', 'replication')
  return run, string.match(repl, 'master_replid:(%w+)') or '', string.match(repl, 'master_replid2:(%w+)') or ''
end

-- everybody is out: entries stay pending under names that are not live, and are adopted after the quarantine
local function lose_members(c)
  for _, p in ipairs(redis.call('SMEMBERS', P .. 'pools')) do
    for _, m in ipairs(redis.call('SMEMBERS', P .. 'pm:' .. p)) do bury(m, c.l) end
  end
  redis.call('DEL', P .. 'members')
  redis.call('ZADD', P .. 'members', '+inf', '')
end

-- true: a new epoch began. Without a ttl nobody has ever joined (or all is gone): the next join begins it.
local function forgot(c, nonce)
  if c.ttl == 0 then return false end
  local run, replid, replid2 = identity()
  local known = redis.call('HMGET', clock, 'run', 'repl')
  local members_gone = redis.call('ZSCORE', P .. 'members', '') == false
  local moved = replid ~= known[2] and string.match(replid2, '[^0]') ~= nil
  if known[1] ~= run or known[2] ~= replid then redis.call('HSET', clock, 'run', run, 'repl', replid) end
  if c.ep and known[1] == run and not moved and not members_gone then return false end
  if members_gone then lose_members(c) end
  begin_epoch(c, nonce)
  return true
end
