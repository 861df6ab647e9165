"""Mutants of the scripts: crashes, how work is found and shared, and how a job ends."""

from __future__ import annotations

from .mutant import mutant

CRASHES = (
    mutant(
        "no dead letter",
        "LEASE §3",
        "adopt.lua",
        ("max_crashes and n >= max_crashes then reason = nil end", "false then reason = nil end"),
    ),
    mutant(
        "crashes are not counted",
        "LEASE §2.6",
        "adopt.lua",
        ("        if crashed == 1 then redis.call('HSET', crashes, id, n) end\n", ""),
    ),
    mutant(
        "a dead letter stays in its stream",
        "LEASE §2.6",
        "adopt.lua",
        ("  remove(lane, {entry})\n", ""),
    ),
    mutant(
        *("suspects unbounded", "CORRECTIONS 2.2", "adopt.lua"),
        ("n == max_crashes - 1 and redis.call('HEXISTS', me, 'suspect') == 1 then", "false then"),
    ),
    mutant(
        "a suspect that ended bars the next",
        "CORRECTIONS 2.2",
        "settle.lua",
        ("  clear_suspect(lane, entries)\n", ""),
    ),
    mutant(
        *("a kept suspect is forgotten", "defect 3", "join.lua"),
        (
            "if redis.call('HGET', P .. 'member:' .. own[1][2], 'suspect') == lane .. '|' .. entry then",
            "if false then",
        ),
    ),
    mutant(
        "orphans not set at the burial",
        "CORRECTIONS 1.6",
        "bury.lua",
        ("        redis.call('SADD', P .. 'orphans', lane)\n", ""),
    ),
    mutant(
        *("ready removed although orphans are left", "CORRECTIONS 1.6", "claim.lua"),
        (
            "if not left then redis.call('SREM', P .. 'ready:' .. pool, lane) end",
            "redis.call('SREM', P .. 'ready:' .. pool, lane)",
        ),
    ),
    mutant(
        *("debts are paid by adoption only", "defect 4", "bury.lua"),
        (
            "  for _, m in ipairs(redis.call('ZRANGE', P .. 'expired', 0, 999)) do settle_debt(lane, m) end\n",
            "",
        ),
    ),
)

WORK = (
    mutant(
        "group at $",
        "LEASE §2.1",
        "join.lua",
        ("P .. 's:' .. lane, 'flowq', '0', 'MKSTREAM')", "P .. 's:' .. lane, 'flowq', '$', 'MKSTREAM')"),
    ),
    mutant(
        *("promote without ZREM", "LEASE §2.12", "delayed.lua"),
        (
            "      redis.call('ZREM', P .. 'delayed', id)\n      redis.call('HDEL', P .. 'delayed:d', id)\n",
            "",
        ),
    ),
    mutant("a promoted job is not marked ready", "ARCH 2", "delayed.lua", ("        mark(lane)\n", "")),
    mutant(
        "no batch marker",
        "P6",
        "submit.lua",
        ("redis.call('SET', marker, cjson.encode(reply), 'PX', keep)\n", ""),
    ),
    mutant(
        "greedy claims",
        "CORRECTIONS 1.1",
        "claim.lua",
        ("  if n == 1 then return take end\n", "  if true then return take end\n"),
    ),
    mutant(
        "hunger does not expire",
        "CORRECTIONS 1.1",
        "claim.lua",
        ("lane, c.l - 1500, c.l)) do", "lane, '-inf', c.l)) do"),
    ),
    mutant(
        "hunger outlives a lost clock",
        "defect 9",
        "claim.lua",
        ("lane, c.l - 1500, c.l)) do", "lane, c.l - 1500, '+inf')) do"),
    ),
    mutant(
        "parts by all who serve",
        "defect 8",
        "claim.lua",
        ("math.ceil((limit - rest) / n) - mine_held", "math.ceil(limit / serving(lane)) - mine_held"),
    ),
    mutant(
        *("a claim that leaves work wakes nobody", "CORRECTIONS 1.1", "claim.lua"),
        ("  if waiting > 0 and (not limit or used < limit) and useful then ring(lane) end\n", ""),
    ),
)

ENDS = (
    mutant(
        *("XACK without XDEL", "LEASE §3", "finish.lua"),
        ("  take_off(s, ids)\n", ""),
    ),
    mutant(
        *("XDEL without XACK", "LEASE §2.8", "finish.lua"),
        ("  redis.call('XACK', s, 'flowq', unpack(ids))\n", ""),
    ),
    mutant(
        *("XTRIM takes what is still pending", "LEASE §2.8", "finish.lua"),
        ("  if first then until_ms, until_seq = place(first[1]) end\n", ""),
    ),
    mutant(
        *("XTRIM one too far", "LEASE §2.8", "finish.lua"),
        ("string.format('%.0f-%.0f', ms, seq + 1)", "string.format('%.0f-%.0f', ms, seq + 2)"),
    ),
    mutant(
        *("XTRIM one too few", "LEASE §2.8", "finish.lua"),
        ("string.format('%.0f-%.0f', ms, seq + 1)", "string.format('%.0f-%.0f', ms, seq)"),
    ),
    mutant(
        *("entries are ordered by their time alone", "LEASE §2.8", "finish.lua"),
        ("if a > until_ms or (a == until_ms and b > until_seq) then", "if a > until_ms then"),
    ),
    mutant(
        *("what lies beyond a pending entry stays", "LEASE §2.8", "finish.lua"),
        ("  if #rest > 0 then redis.call('XDEL', s, unpack(rest)) end\n", ""),
    ),
    mutant(
        "crash counts outlive their entry",
        "LEASE §2.8",
        "finish.lua",
        ("redis.call('HDEL', P .. 'crashes:' .. lane, unpack(ids))", "local _"),
    ),
    mutant(
        "a cancel outlives its entry",
        "CORRECTIONS 1.2",
        "finish.lua",
        ("redis.call('HDEL', P .. 'cancels', lane .. '|' .. e)", "local _"),
    ),
    mutant(
        "a moved job's row outlives it",
        "ARCH 3",
        "finish.lua",
        ("  if moved then redis.call('HDEL', P .. 'moved', id) end\n", ""),
    ),
    mutant(
        *("a settle after XGROUP DESTROY fails", "defect 5", "settle.lua"),
        (
            "local own = redis.pcall('XPENDING', s, 'flowq', ARGV[i]",
            "local own = redis.call('XPENDING', s, 'flowq', ARGV[i]",
        ),
    ),
    mutant(
        *("a lost group is not looked for", "defect 7", "settle.lua"),
        ("      if own.err then mark(lane) end -- the group is gone: the next claim finds that out\n", ""),
    ),
    mutant(
        *("a retry ignores that its job was cancelled", "found by review", "settle.lua"),
        (
            "local reason = redis.call('HGET', P .. 'cancels', lane .. '|' .. ARGV[at])",
            "local reason = false",
        ),
    ),
    mutant(
        "release that acks",
        "LEASE §3",
        "settle.lua",
        ("return hand_back(lane, entries) end", "return remove(lane, entries) end"),
    ),
    mutant(
        "the idempotency key outlives its job", "CORRECTIONS 3.2", "finish.lua", ("  free_key(id, key)\n", "")
    ),
)
