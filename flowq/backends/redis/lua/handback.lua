-- Fragment: hand entries back to nobody, uncounted (I1): the pseudo owner `-` is never live. Needs: bell fragment.
-- Rules (docs/lease-model.md): R5, R16, R17.
local function hand_back(lane, ids)
  if #ids == 0 then return end
  local call = {'XCLAIM', P .. 's:' .. lane, 'flowq', '-', 0}
  for _, id in ipairs(ids) do call[#call + 1] = id end
  call[#call + 1] = 'JUSTID'
  redis.call(unpack(call))
  redis.call('SADD', P .. 'orphans', lane)
  mark(lane)
  ring(lane)
end

-- every entry of m in this lane that `known` does not hold (known[id] = delivery count)
local function hand_back_unknown(lane, m, known)
  local from, unknown = '-', {}
  while true do
    local own = redis.pcall('XPENDING', P .. 's:' .. lane, 'flowq', from, '+', 500, m)
    if own.err then
      mark(lane) -- the group is gone: the next claim finds that out
      return 0
    end
    for _, e in ipairs(own) do
      if known[e[1]] ~= e[4] then unknown[#unknown + 1] = e[1] end
    end
    if #own < 500 then break end
    from = '(' .. own[#own][1]
  end
  for i = 1, #unknown, 500 do
    local part = {}
    for j = i, math.min(i + 499, #unknown) do part[#part + 1] = unknown[j] end
    hand_back(lane, part)
  end
  return #unknown
end
