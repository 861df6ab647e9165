"""The code broken on purpose: each mutant is a textual patch of a shipped ``.lua`` or of the worker's rules in ``member.py``.

A patch whose text does not occur exactly once fails the build. ``search.py`` finds for each the shortest program that breaks a
promise; ``programs.json`` keeps it, and ``property_tests/test_mutants.py`` replays it: it fails on the mutant and passes on what is shipped.
"""

from __future__ import annotations

from .lua_mutants import CRASHES, LIMITS, OWNERS, QUARANTINE, STARTED_IN_ANY_EPOCH, WORK, Mutant, mutant

MEMBER = (
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
            "  c.ep = m .. '.' .. string.format('%.0f', c.us)\n  c.q = c.l + c.ttl\n"
            "  redis.call('HSET', clock, 'ep', c.ep, 'q', c.q)\n",
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
        ("do hand_back_unknown(lane, old, {}) end", "do end"),
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
            "if redis.call('HGET', P .. 'member:' .. old, 'suspect') == lane .. '|' .. entry then",
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

MEMBER = (
    mutant(
        "reply of a connection given up",
        "W7",
        "member.py",
        ("        if request is not self.waiting:\n            return\n", ""),
        also=STARTED_IN_ANY_EPOCH,
    ),
    mutant(
        "no `mine`", "LEASE §3", "member.py", ("        if not self.reconciled:\n", "        if False:\n")
    ),
    mutant(
        *("`mine` takes back what runs", "W4", "member.py"),
        ("scripts.mine(self.standing(), listed))], listed)", "scripts.mine(self.standing(), []))], listed)"),
    ),
    mutant("session stays", "W5", "member.py", ("        self.session += 1\n", "")),
    mutant(
        "the unconfirmed goes on",
        "LEASE §3",
        "member.py",
        ("            if fence in fences:\n", "            if fence:\n"),
    ),
    mutant(
        "deadline from the reply",
        "LEASE §3",
        "member.py",
        ("max(self.deadline, request.sent + LOCAL)", "max(self.deadline, now + LOCAL)"),
    ),
    mutant(
        *("a claim extends the deadline", "LEASE §3", "member.py"),
        (
            "            self._start(now)\n\n    def _on_settle",
            "            self._start(now)\n            self.deadline = max(self.deadline, now + LOCAL)\n\n    def _on_settle",
        ),
    ),
    mutant(
        *("a refused epoch extends the deadline", "LEASE §2.3", "member.py"),
        (
            "        elif renewed.status is Status.EPOCH:\n            self._doubt()\n",
            "        elif renewed.status is Status.EPOCH:\n            self._doubt()\n            self.deadline = max(self.deadline, request.sent + LOCAL)\n",
        ),
    ),
    mutant("no watchdog", "LEASE §3", "member.py", ("if self.id and now >= self.deadline:", "if False:")),
    mutant(
        "limited bodies outlive the lease",
        "LEASE §2.9",
        "member.py",
        (
            "if held.ended is None and (held.limited or held.body is None):",
            "if held.ended is None and held.body is None:",
        ),
    ),
    mutant(
        "joins again while bodies unwind",
        "LEASE §2.9",
        "member.py",
        ("if any(b.limited and b.runs(now) for b in self.bodies):", "if False:"),
    ),
    mutant(
        "leaves while bodies run",
        "LEASE §2.10",
        "member.py",
        (" or any(h.body or h.ended for h in self.known.values()):", ":"),
    ),
    mutant(
        "one id for every life",
        "LEASE §2.2",
        "member.py",
        ('new = f"{self.name}.{next(self._ids)}"', 'new = f"{self.name[:2]}"'),
    ),
)

MUTANTS: dict[str, Mutant] = {m.name: m for m in (*LIMITS, *QUARANTINE, *OWNERS, *CRASHES, *WORK, *MEMBER)}

NOT_EXPRESSIBLE = {
    "W8 (`mine` before confirm)": "the loop has one request outstanding: nothing becomes known between the two lists",
    "W12–W17 (XCLAIM FORCE, ghosts)": "there is no FORCE and no ghost in these scripts",
    "I2, I3, I6, I9": "not rules of a script or of the worker's machine; their places are forgot.lua, the keeper and the docs",
    "I4": "every delivery passes the claim: nothing judges a lane's class locally",
    "retry in two steps, promote in two steps": "each is one script; a half of it would be a new script, not a patch",
    "renew re-adds an expired member": "equivalent (LEASE §3): expiry frees no slot",
    "settle without liveness": "is the rule (CORRECTIONS 1.3)",
    "late reply starts after the deadline": "the watchdog looks before every reply; without it that is `no watchdog`",
}
