#!lua flags=allow-oom
-- Renew with the list of all that this member knows, after the server forgot: confirms what is still pending
-- under its name with that delivery count. No XADD, no XCLAIM. Safe to send twice.
-- returns: {'OK', epoch, indices confirmed, quarantine ms} | {'LOST'}
-- Rules (docs/lease-model.md): R1, R4.
local clock = KEYS[1]  -- <prefix>clock
local m = ARGV[1]      -- str: member
local nonce = ARGV[2]  -- str: random, names an epoch that begins here
local rest = 3         -- ARGV[3..]: (lane, entry, n) …

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include forgot
local c = tick()
forgot(c, nonce)
local expiry = redis.call('ZSCORE', P .. 'members', m)
if c.ttl == 0 or not expiry or tonumber(expiry) <= c.l then
  if c.ttl > 0 then save(c) end
  return {'LOST'}
end
redis.call('ZADD', P .. 'members', 'XX', c.l + c.ttl, m)
save(c)
local confirmed = {}
for i = rest, #ARGV, 3 do
  local own = redis.pcall('XPENDING', P .. 's:' .. ARGV[i], 'flowq', ARGV[i + 1], ARGV[i + 1], 1)
  if own.err then mark(ARGV[i]) end -- the group is gone: the next claim finds that out
  if not own.err and own[1] and own[1][2] == m and own[1][4] == tonumber(ARGV[i + 2]) then
    confirmed[#confirmed + 1] = (i - rest) / 3
  end
end
return {'OK', c.ep, confirmed, math.max(0, c.q - c.l)}
