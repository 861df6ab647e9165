-- Fragment: from a job's id to the job, without an index: its id names its first entry; `delayed` and `moved` hold the others.
-- Rules (docs/lease-model.md): none.
-- Needs: clock fragment.
-- returns: 'delayed' | 'ready' | 'running' | 'cancelling' | nil; lane; entry
local function where(id)
  local lane, entry = string.match(id, '^([^:]+):([dk]?%d+%-%d+)$')
  if not lane then return nil end
  if redis.call('ZSCORE', P .. 'delayed', id) then return 'delayed', lane, nil end
  entry = redis.call('HGET', P .. 'moved', id) or entry
  if string.find(entry, '^[dk]') then return nil, lane end
  local s = P .. 's:' .. lane
  local row = redis.call('XRANGE', s, entry, entry)
  if not row[1] then return nil, lane end
  local own = redis.pcall('XPENDING', s, 'flowq', entry, entry, 1)
  if own.err or not own[1] or own[1][2] == '-' then return 'ready', lane, entry end
  local cancelled = redis.call('HEXISTS', P .. 'cancels', lane .. '|' .. entry) == 1
  return cancelled and 'cancelling' or 'running', lane, entry
end
