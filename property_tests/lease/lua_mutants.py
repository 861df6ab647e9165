"""Mutants of the scripts: one group for each promise that they break."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .server import Patch


@attrs.frozen
class Mutant:
    """``row``: where the rule comes from (LEASE §1 row, §2 rule, §3 mutant, CORRECTIONS item, or the defect that we had)."""

    name: str
    row: str
    patches: tuple[Patch, ...]


def mutant(name: str, row: str, file: str, *changes: tuple[str, str], also: Iterable[Patch] = ()) -> Mutant:
    return Mutant(name, row, (*(Patch(file, old, new) for old, new in changes), *also))


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
    mutant("no quarantine", "LEASE §3", "forgot.lua", ("c.q = c.l + c.ttl", "c.q = c.l")),
    mutant(
        "an empty server is no restart",
        "W9",
        "join.lua",
        ("if virgin and virgin_ok == '1' then", "if virgin then"),
    ),
    mutant(
        *("a lost group is made anew, that is all", "W10", "claim.lua"),
        (
            """  c.ep = m .. '.' .. string.format('%.0f', c.us)
  c.q = c.l + c.ttl
  redis.call('HSET', clock, 'ep', c.ep, 'q', c.q)
""",
            "",
        ),
    ),
    mutant(
        *("members lost alone are not missed", "W11", "forgot.lua"),
        (
            "local members_gone = redis.call('ZSCORE', P .. 'members', '') == false",
            "local members_gone = false",
        ),
    ),
    mutant(
        *("epoch is a counter", "I11", "forgot.lua"),
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
        *("only the first entry is handed back", "defect 1", "handback.lua"),
        ("for _, id in ipairs(ids) do call[#call + 1] = id end", "call[#call + 1] = ids[1]"),
    ),
    mutant(
        "release that acks",
        "LEASE §3",
        "settle.lua",
        ("return hand_back(lane, entries) end", "return remove(lane, entries) end"),
    ),
    mutant("XACK without XDEL", "LEASE §3", "finish.lua", ("  redis.call('XDEL', s, unpack(ids))\n", "")),
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
)

CRASHES = (
    mutant(
        "no dead letter",
        "LEASE §3",
        "adopt.lua",
        ("max_crashes and n >= max_crashes then reason = nil end", "false then reason = nil end"),
    ),
    mutant(
        *("suspects unbounded", "CORRECTIONS 2.2", "adopt.lua"),
        ("n == max_crashes - 1 and redis.call('HEXISTS', me, 'suspect') == 1 then", "false then"),
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
        ("    redis.call('ZREM', P .. 'delayed', id)\n    redis.call('HDEL', P .. 'delayed:d', id)\n", ""),
    ),
    mutant("a promoted job is not marked ready", "ARCH 2", "delayed.lua", ("      mark(lane)\n", "")),
    mutant(
        "no batch marker",
        "P6",
        "submit.lua",
        ("redis.call('SET', marker, cjson.encode(reply), 'PX', keep)\n", ""),
    ),
    mutant(
        "the idempotency key outlives its job", "CORRECTIONS 3.2", "finish.lua", ("  free_key(id, key)\n", "")
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
