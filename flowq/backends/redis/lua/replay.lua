#!lua
-- Submit a dead letter's job anew and remove the letter, in one step. A full memory refuses it: nothing happened then.
-- Safe to send twice: the second time finds no letter.
-- returns: {'replayed', job id} | {'gone'} | {'taken', id of the job that has the key now}
-- Rules (docs/lease-model.md): R16, R17.
local clock = KEYS[1]     -- <prefix>clock
local letter = ARGV[1]    -- str: entry id of the letter
local key = ARGV[2]       -- str: idempotency key or ''
local envelope = ARGV[3]  -- str: the letter's envelope, as for a job that was never tried

--- @include clock
--- @include bell
--- @include delayed
--- @include finish
--- @include arrive
local row = redis.call('XRANGE', P .. 'dead', letter, letter)[1]
if not row then return {'gone'} end
local lane
for i = 1, #row[2], 2 do
  if row[2][i] == 'lane' then lane = row[2][i + 1] end
end
local name = P .. 'u:' .. lane .. ':' .. key
local holder = key ~= '' and redis.call('GET', name)
if holder then return {'taken', holder} end
local c = tick()
save(c)
local id = lane .. ':' .. redis.call('XADD', P .. 's:' .. lane, '*', 'd', envelope)
if key ~= '' then redis.call('SET', name, id) end
redis.call('XDEL', P .. 'dead', letter)
arrived(c, lane, 1)
return {'replayed', id}
