"""Mutants of the scripts: limits, what a loss of the server's memory calls for, and who owns what."""

from __future__ import annotations

from .mutant import mutant
from .server import Patch

STARTED_IN_ANY_EPOCH = (
    Patch(
        "member.py",
        "claimed.status is not Status.OK or claimed.epoch != self.epoch",
        "claimed.status is not Status.OK",
    ),
    Patch(
        "member.py",
        "if held.delivery.epoch == self.epoch and now < self.deadline:",
        "if now < self.deadline:",
    ),
)
_BLOCK_USED = "  local used = pending(lane)\n  if not used then return false end\n"
_TAKE = "local take, capped = limit and math.min(most, limit - used) or most, false"
_ADOPT_BOUND = "local can = limit and math.min(most, limit - (used - dead)) or most"

LIMITS = (
    mutant("no limit", "P2", "claim.lua", (_TAKE, "local take, capped = most, false")),
    mutant(
        *("own pending only", "LEASE §3", "claim.lua"),
        (
            _BLOCK_USED,
            _BLOCK_USED + "  used = 0\n  for _, e in ipairs(redis.call('XPENDING', s, 'flowq')[4] or {}) do\n"
            "    if e[1] == m then used = tonumber(e[2]) end\n  end\n",
        ),
    ),
    mutant(
        *("used without the dead's entries", "LEASE §3", "claim.lua"),
        (_BLOCK_USED, _BLOCK_USED + "  local _, gone = dead_owners(lane, c.l)\n  used = used - gone\n"),
    ),
    mutant(
        "adoption bounded by limit - used",
        "W1",
        "claim.lua",
        (_ADOPT_BOUND, "local can = limit and math.min(most, limit - used) or most"),
    ),
    mutant("adoption bounded by want only", "W2", "claim.lua", (_ADOPT_BOUND, "local can = most")),
    mutant(
        *("limit not recomputed when a pool goes", "ARCH 9", "bury.lua"),
        ("table.concat(rest, ' '))\n      recompute(lane)", "table.concat(rest, ' '))"),
    ),
    mutant(
        *("lowering a limit takes tokens", "LEASE §3", "control.lua"),
        (
            "  redis.call('HSET', P .. 'override', lane, value)\n",
            """  redis.call('HSET', P .. 'override', lane, value)
  local own = redis.pcall('XPENDING', P .. 's:' .. lane, 'flowq', '-', '+', 100)
  for _, e in ipairs(own.err and {} or own) do
    redis.call('XCLAIM', P .. 's:' .. lane, 'flowq', '-', 0, e[1], 'JUSTID')
  end
  redis.call('SADD', P .. 'orphans', lane)
""",
        ),
    ),
    mutant(
        "own entries are read again",
        "LEASE §2.13",
        "claim.lua",
        ("P .. 's:' .. lane, '>')", "P .. 's:' .. lane, '0')"),
    ),
)

QUARANTINE = (
    mutant(
        *("quarantine blocks new entries only", "W3", "claim.lua"),
        ("  if limit and c.l < c.q then return true end\n", ""),
        (
            _TAKE,
            "local take, capped = limit and (c.l < c.q and 0 or math.min(most, limit - used)) or most, false",
        ),
    ),
    mutant("no quarantine", "LEASE §3", "clock.lua", ("c.q = c.l + c.ttl", "c.q = c.l")),
    mutant(
        "quarantine half as long",
        "LEASE §2 inequalities",
        "clock.lua",
        ("c.q = c.l + c.ttl", "c.q = c.l + math.floor(c.ttl / 2)"),
    ),
    mutant(
        "an empty server is no restart",
        "W9",
        "join.lua",
        ("if virgin and virgin_ok == '1' then", "if virgin then"),
    ),
    mutant(
        *("a lost group is made anew, that is all", "W10", "claim.lua"),
        ("  begin_epoch(c, m)\n", ""),
    ),
    mutant(
        *("members lost alone are not missed", "W11", "forgot.lua"),
        (
            "local members_gone = redis.call('ZSCORE', P .. 'members', '') == false",
            "local members_gone = false",
        ),
    ),
    mutant(
        *("a lost group is made anew at $", "W10", "claim.lua"),
        ("'flowq', '0', 'MKSTREAM')\n  mark(lane)", "'flowq', '$', 'MKSTREAM')\n  mark(lane)"),
    ),
    mutant(
        "no sentinel after a loss",
        "W11",
        "forgot.lua",
        ("  redis.call('ZADD', P .. 'members', '+inf', '')\n", ""),
    ),
    mutant(
        *("run_id alone is the identity", "I3", "forgot.lua"),
        ("replid ~= known[2] and string.match(replid2, '[^0]') ~= nil", "false"),
    ),
    mutant(
        *("replid alone is the identity", "I3", "forgot.lua"),
        ("c.ep and known[1] == run and not moved", "c.ep and not moved"),
    ),
    mutant(
        *("a new connection is not told", "LEASE §2.1", "hello.lua"),
        ("forgot(c, nonce)\n", ""),
    ),
    mutant(
        *("a renewal confirms unasked", "LEASE §2.3", "renew.lua"),
        ("c.ep == epoch and 'OK' or 'EPOCH'", "'OK'"),
    ),
    mutant(
        *("epoch is a counter", "I11", "clock.lua"),
        (
            "c.ep = nonce .. '.' .. string.format('%.0f', c.us)",
            "c.ep = 'e' .. string.format('%.0f', (tonumber(string.match(c.ep or '', '^e(%d+)$')) or 0) + 1)",
        ),
    ),
    mutant(
        *("a new replid is a failover", "CORRECTIONS 1.5", "forgot.lua"),
        ("replid ~= known[2] and string.match(replid2, '[^0]') ~= nil", "replid ~= known[2]"),
    ),
    mutant(
        "raw TIME as the lease clock",
        "LEASE §2 Time",
        "clock.lua",
        ("c.l + math.min(step, math.floor(c.ttl / 6))", "c.l + step"),
    ),
    mutant(
        *("raw TIME as the waiting clock", "CORRECTIONS 1.7", "clock.lua"),
        ("    c.w = c.w + step\n  end\n", "  end\n  c.w = now\n"),
    ),
    mutant(
        "waiting clock begins at 0",
        "defect 6",
        "clock.lua",
        ("w = tonumber(v[3] or now)", "w = tonumber(v[3] or 0)"),
    ),
)

OWNERS = (
    mutant(
        "no session",
        "W5",
        "claim.lua",
        ("if session < tonumber(mine[1] or 0) then return {'STALE'} end\n", ""),
    ),
    mutant(
        "`mine` keeps no session",
        "W5",
        "mine.lua",
        ("redis.call('HSET', me, 'sess', session)\n", ""),
    ),
    mutant(
        "a `mine` of an older session counts",
        "LEASE §2.5",
        "mine.lua",
        ("if session < tonumber(stored[1] or 0) then return {'STALE'} end\n", ""),
    ),
    mutant(
        *("confirm without the delivery count", "LEASE §2.3", "confirm.lua"),
        ("own[1][2] == m and own[1][4] == tonumber(ARGV[i + 2])", "own[1][2] == m"),
    ),
    mutant(
        *("the fence follows TIME back", "LEASE §2.6", "claim.lua"),
        ("math.max(c.f, seen, c.us) + 1", "math.max(seen, c.us) + 1"),
    ),
    mutant(
        *("settle without the delivery count", "W6", "settle.lua"),
        ("if have[entry] == times then", "if have[entry] then"),
        ("own[1][2] == m and own[1][4] == times then", "own[1][2] == m then"),
    ),
    mutant(
        "settle without the owner",
        "LEASE §3",
        "settle.lua",
        ("own[1][2] == m and own[1][4] == times", "own[1][4] == times"),
    ),
    mutant(
        *("settle without the epoch", "LEASE §2.8", "settle.lua"),
        ("if c.ep ~= epoch then return {'EPOCH', c.ep or ''} end\n", ""),
    ),
    mutant(
        *("claim without the epoch, at both ends", "LEASE §2.7", "claim.lua"),
        ("== false or c.ep ~= epoch then", "== false then"),
        also=STARTED_IN_ANY_EPOCH,
    ),
    mutant(
        "adoption from the living",
        "LEASE §3",
        "adopt.lua",
        ("if not expiry or tonumber(expiry) <= l then", "if true then"),
    ),
    mutant(
        "a hand-back counts as a crash",
        "I1",
        "adopt.lua",
        ("local crashed = owner == '-' and 0 or 1", "local crashed = 1"),
    ),
    mutant(
        "a former life's entries are not handed back",
        "I8",
        "join.lua",
        ("do hand_back_unknown(lane, id, {}) end", "do end"),
    ),
    mutant(
        "what nobody owns is adopted by nobody",
        "I1",
        "adopt.lua",
        (
            "if not expiry or tonumber(expiry) <= l then",
            "if pair[1] ~= '-' and (not expiry or tonumber(expiry) <= l) then",
        ),
    ),
    mutant(
        "`leave` keeps what is owned",
        "LEASE §2.10",
        "leave.lua",
        ("do n = n + hand_back_unknown(lane, m, {}) end", "do end"),
    ),
    mutant(
        "what is handed back is not looked for",
        "CORRECTIONS 1.6",
        "handback.lua",
        ("  redis.call('SADD', P .. 'orphans', lane)\n", ""),
    ),
    mutant(
        *("only the first entry is handed back", "defect 1", "handback.lua"),
        ("for _, id in ipairs(ids) do call[#call + 1] = id end", "call[#call + 1] = ids[1]"),
    ),
)
