-- Which dead letters are there, newest first, without their bulky parts? Reads only; O(most).
-- returns: [letter, lane, job id, kind, …]
-- Rules (docs/lease-model.md): none.
local clock = KEYS[1]  -- <prefix>clock
local below = ARGV[1]  -- str: '+', or '(' and the last letter of the page before
local most = ARGV[2]   -- int: letters a page

local P = string.sub(clock, 1, -6)
local found = {}
for _, row in ipairs(redis.call('XREVRANGE', P .. 'dead', below, '-', 'COUNT', most)) do
  local f = {}
  for i = 1, #row[2], 2 do f[row[2][i]] = row[2][i + 1] end
  for _, v in ipairs({row[1], f.lane or '', f.id or '', f.kind or ''}) do found[#found + 1] = v end
end
return found
