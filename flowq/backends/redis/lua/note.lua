#!lua flags=allow-oom
-- What a member says of itself for `flowq status`: that it drains, and how many jobs it put off for skew since it last said so.
-- Decides nothing. Sent twice it counts twice. returns: 1, or 0: no such member (any more)
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]     -- <prefix>clock
local m = ARGV[1]         -- str: member
local draining = ARGV[2]  -- '1' | '0'
local rest = 3            -- ARGV[3..]: (lane, jobs put off) …

--- @include drain
--- @include clock
--- @include bell
--- @include finish
local me = P .. 'member:' .. m
if redis.call('EXISTS', me) == 0 then return 0 end
if draining == '1' then redis.call('HSET', me, 'draining', 1) end
local c = tick()
for i = rest, #ARGV, 2 do count(ARGV[i], c.now, 'skewed', tonumber(ARGV[i + 1])) end
return 1
