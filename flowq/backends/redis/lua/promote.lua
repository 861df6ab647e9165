#!lua flags=allow-oom
-- Move due jobs into their streams and ring; XADD and ZREM in one script. Safe to send twice.
-- returns: ms until the next one is due, -1: there is none
-- Rules (docs/lease-model.md): R12.
local clock = KEYS[1]  -- <prefix>clock

--- @include drain
--- @include clock
--- @include bell
--- @include delayed
local c = tick()
if c.ttl > 0 then save(c) end
promote_due(c)
return next_due(c)
