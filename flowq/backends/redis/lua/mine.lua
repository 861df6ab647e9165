#!lua flags=allow-oom
-- Hand back what is pending for this member and unknown to it; starts nothing. Safe to send twice.
-- From here on claims of older sessions are refused: a claim that outlived its connection must find nobody (W5).
-- returns: {'OK', handed back} | {'LOST'} | {'STALE'}
-- Rules (docs/lease-model.md): R5.
local clock = KEYS[1]            -- <prefix>clock
local m = ARGV[1]                -- str: member
local session = tonumber(ARGV[2])  -- int: goes up with each reconnect
local rest = 3                   -- ARGV[3..]: known (lane, entry, n) …

--- @include drain
--- @include clock
--- @include bell
--- @include handback
local c = tick()
local expiry = redis.call('ZSCORE', P .. 'members', m)
if c.ttl == 0 or not expiry or tonumber(expiry) <= c.l then return {'LOST'} end
local me = P .. 'member:' .. m
local stored = redis.call('HMGET', me, 'sess', 'pool')
if session < tonumber(stored[1] or 0) then return {'STALE'} end
redis.call('HSET', me, 'sess', session)
save(c)
local known = {}
for i = rest, #ARGV, 3 do
  known[ARGV[i]] = known[ARGV[i]] or {}
  known[ARGV[i]][ARGV[i + 1]] = tonumber(ARGV[i + 2])
end
local n = 0
for _, lane in ipairs(redis.call('HKEYS', P .. 'pool:' .. stored[2])) do
  n = n + hand_back_unknown(lane, m, known[lane] or {})
end
local suspect = redis.call('HGET', me, 'suspect')
if suspect then
  local lane, entry = string.match(suspect, '^([^|]*)|(.*)$')
  if not (known[lane] and known[lane][entry]) then redis.call('HDEL', me, 'suspect') end
end
return {'OK', n}
