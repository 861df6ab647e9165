#!lua flags=allow-oom
-- Change the lease TTL of a running fleet, or take a change back that is under way. Safe to send twice; sent again it tells
-- how far it is.
-- returns: {'NONE'} nobody has ever joined | {'BUSY', from, to} another one is under way |
--   {'OK', ttl of the server ms, change or '', 1: open, live members, of them heeding it, of them configured with the wanted value}
-- Rules (docs/lease-model.md): R18.
local clock = KEYS[1]   -- <prefix>clock
local wanted = tonumber(ARGV[1])  -- int: lease, ms
local nonce = ARGV[2]   -- str: random, names a change or an epoch that begins here

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include forgot
--- @include change
local c = tick()
if c.ttl == 0 then return {'NONE'} end
forgot(c, nonce)
local change = redis.call('HGET', clock, 'change')
local from, to = change_of(change)
if change and wanted ~= from and wanted ~= to then
  save(c)
  return {'BUSY', from, to}
end
if change and wanted == from then
  begin_change(c, to, from, nonce)
elseif not change and wanted ~= c.ttl then
  if c.l < c.q then outlast(c, wanted) end
  begin_change(c, c.ttl, wanted, nonce)
end
change = advance(c)
save(c)
local live, heeding, configured = 0, 0, 0
for _, m in ipairs(live_members(c)) do
  local v = redis.call('HMGET', P .. 'member:' .. m, 'heard', 'ttl')
  live = live + 1
  if v[1] == change then heeding = heeding + 1 end
  if tonumber(v[2] or nil) == wanted then configured = configured + 1 end
end
return {'OK', c.ttl, change or '', redis.call('HGET', clock, 'open') and 1 or 0, live, heeding, configured}
