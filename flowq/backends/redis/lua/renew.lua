#!lua flags=allow-oom
-- Extend a lease: O(1), whatever the member runs. Never re-adds a member. Safe to send twice.
-- returns: {'OK'|'EPOCH', cancels: [lane|entry, reason, …], change of the lease TTL that is under way or ''} | {'LOST'}
-- Rules (docs/lease-model.md): R1, R3, R18.
local clock = KEYS[1]   -- <prefix>clock
local m = ARGV[1]       -- str: member
local epoch = ARGV[2]   -- str: epoch in which this member was last confirmed
local nonce = ARGV[3]   -- str: random, names an epoch that begins here
local running = ARGV[4] -- int: bodies running, for `status`
local heard = ARGV[5]   -- str: change of the lease TTL that this member heeds, '': none

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include forgot
--- @include change
local c = tick()
forgot(c, nonce)
local expiry = redis.call('ZSCORE', P .. 'members', m)
if c.ttl == 0 or not expiry or tonumber(expiry) <= c.l then
  if c.ttl > 0 then save(c) end
  return {'LOST'}
end
redis.call('ZADD', P .. 'members', 'XX', c.l + c.ttl, m)
redis.call('HSET', P .. 'member:' .. m, 'running', running, 'heard', heard)
local change = advance(c, m, heard)
save(c)
local cancels = redis.call('EXISTS', P .. 'cancels') == 1 and redis.call('HGETALL', P .. 'cancels') or {}
return {c.ep == epoch and 'OK' or 'EPOCH', cancels, change or ''}
