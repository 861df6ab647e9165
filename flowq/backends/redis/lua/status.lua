-- Where is a job? Reads only.
-- returns: 'delayed'|'ready'|'running'|'cancelling' | the record of an ended job (JSON) | ''
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]  -- <prefix>clock
local id = ARGV[1]     -- str: job id

local P = string.sub(clock, 1, -6)
--- @include where
return where(id) or redis.call('GET', P .. 'r:' .. id) or ''
