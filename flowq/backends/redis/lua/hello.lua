#!lua flags=allow-oom
-- Greet the server, once per connection and before any claim: has it forgotten?
-- returns: {epoch or '', layout}. Safe to send twice.
-- Rules (docs/lease-model.md): R1.
local clock = KEYS[1]  -- <prefix>clock
local nonce = ARGV[1]  -- str: random, names an epoch that begins here

--- @include drain
--- @include clock
--- @include bell
--- @include limits
--- @include bury
--- @include forgot
local c = tick()
forgot(c, nonce)
if c.ttl > 0 then save(c) end
return {c.ep or '', redis.call('HGET', clock, 'schema') or ''}
