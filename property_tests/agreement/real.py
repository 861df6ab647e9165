"""The shipped scripts on a real redis-server, with time and identity under control, as a place."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
import msgspec

from flowq._model import (
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    Joined,
    LanePolicy,
    Receipt,
    Renewed,
    Settled,
    Status,
    Submission,
    Want,
)
from flowq.backends.protocol import Standing
from flowq.backends.redis import scripts
from flowq.backends.redis.fleet import pool_of
from flowq.backends.redis.script import Script
from property_tests.lease.server import CLOCK, PREFIX, Server, load_scripts

from .served import FACTS, Served, uid_of
from .words import LANES, START, Reply

SCRIPTS = load_scripts()
KEEP = 120_000
"""How long a batch can be sent again, ms."""

STALE_HINTS = """
local P, pool = ARGV[1], ARGV[2]
local l = tonumber(redis.call('HGET', P .. 'clock', 'l') or 0)
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'ready:' .. pool)) do
  local summary = redis.pcall('XPENDING', P .. 's:' .. lane, 'flowq')
  local used, work = 0, summary.err ~= nil
  for _, pair in ipairs(summary[4] or {}) do
    used = used + tonumber(pair[2])
    if tonumber(redis.call('ZSCORE', P .. 'members', pair[1]) or 0) <= l then work = true end
  end
  if not work and redis.call('XLEN', P .. 's:' .. lane) == used then redis.call('SREM', P .. 'ready:' .. pool, lane) end
end
return redis.call('SMEMBERS', P .. 'ready:' .. pool)
"""

DUMP = """
local P, lanes = ARGV[1], cjson.decode(ARGV[2])
local function hash(k)
  local f, h = redis.call('HGETALL', P .. k), {}
  for i = 1, #f, 2 do h[f[i]] = f[i + 1] end
  return h
end
local function zset(k)
  local f, h = redis.call('ZRANGE', P .. k, 0, -1, 'WITHSCORES'), {}
  for i = 1, #f, 2 do h[f[i]] = f[i + 1] end
  return h
end
local out = {lanes = {}, sessions = {}, records = {}, keys = {}, paused = redis.call('SMEMBERS', P .. 'paused')}
for _, k in ipairs({'clock', 'limits', 'override', 'delayed:d', 'moved', 'cancels'}) do out[k] = hash(k) end
for _, k in ipairs({'members', 'delayed'}) do out[k] = zset(k) end
for m in pairs(out.members) do out.sessions[m] = redis.call('HGET', P .. 'member:' .. m, 'sess') end
for _, lane in ipairs(lanes) do
  local s = P .. 's:' .. lane
  local pending = redis.pcall('XPENDING', s, 'flowq', '-', '+', 1000)
  if pending.err then pending = {} end
  out.lanes[lane] = {
    entries = redis.call('XRANGE', s, '-', '+'), pending = pending, crashes = hash('crashes:' .. lane),
    hungry = zset('hungry:' .. lane), stats = hash('stats:' .. lane),
  }
end
for _, k in ipairs(redis.call('KEYS', P .. 'r:*')) do out.records[string.sub(k, #P + 3)] = {redis.call('GET', k), redis.call('PTTL', k)} end
for _, k in ipairs(redis.call('KEYS', P .. 'u:*')) do out.keys[string.sub(k, #P + 3)] = redis.call('GET', k) end
out.dead = redis.call('XRANGE', P .. 'dead', '-', '+')
return cjson.encode(out)
"""


class Real(Served):
    """One life of an app on a server of ours, which is empty again when it begins."""

    def __init__(self, server: Server, shipped: dict[str, Script] = SCRIPTS) -> None:
        super().__init__()
        self.server = server
        self.name = "redis {}.{}.{}".format(*server.version)
        texts = {name: script.text_for(server.version) for name, script in shipped.items()}
        texts |= {"dump": DUMP, "hints": STALE_HINTS}
        shas = server.call(*(("SCRIPT", "LOAD", text) for text in texts.values()))
        self.shas = dict(zip(texts, shas, strict=True))
        self._dump = ("EVALSHA", self.shas["dump"], 0, PREFIX, json.dumps(LANES))
        self.dumped = b""
        """What the last script left, read in the same write; empty: something else came after it."""
        self.pools: dict[str, str] = {}
        self.raw: dict[str, Any] = {}
        self.lives = 0
        self.virgin = True
        server.flush()
        server.set_time(START)
        self._new_life()
        self.saved = server.snapshot()

    def _new_life(self) -> None:
        self.lives += 1
        self.server.set_identity(f"run{self.lives}", "0")

    def _run(self, name: str, args: scripts.Args) -> Any:
        reply, self.dumped = self.server.call(self._script(name, args), self._dump)
        return reply

    def _script(self, name: str, args: scripts.Args) -> tuple[Any, ...]:
        return ("EVALSHA", self.shas[name], 1, CLOCK, *args)

    def _join(
        self, m: str, lanes: dict[str, LanePolicy], ttl: int, old: str, keep: list[Delivery]
    ) -> Joined | None:
        self.pools[m] = pool_of(lanes)
        facts = msgspec.json.encode(attrs.asdict(FACTS))
        args = scripts.join(
            m,
            "n",
            ttl_ms=ttl,
            virgin_ok=self.virgin,
            old=old,
            pool=self.pools[m],
            facts=facts,
            lanes=lanes,
            keep=keep,
        )
        reply = self._run("join", args)
        if reply[0] == b"TTL":
            return None
        self.virgin = False
        return scripts.read_join(reply, m, keep, ttl)

    def _renew(self, me: Standing) -> Renewed:
        return scripts.read_renew(self._run("renew", scripts.renew(me, "n", 0)))

    def _confirm(self, me: Standing, known: list[Delivery]) -> Confirmed:
        return scripts.read_confirm(self._run("confirm", scripts.confirm(me, "n", known)), known)

    def _mine(self, me: Standing, known: list[Delivery]) -> Settled:
        return Settled(Status(self._run("mine", scripts.mine(me, known))[0].decode()))

    def _exchange(self, m: str, me: Standing, ended: list[Ended], want: Want | None, first: str) -> Exchanged:
        replies: list[Any] = []
        args, ordered = scripts.settle(me, ended, want is not None)
        if want is None:
            replies.append(self._run("settle", args))
        else:
            *replies, hints = self.server.call(
                *([self._script("settle", args)] if ended else []),
                ("EVALSHA", self.shas["hints"], 0, PREFIX, self.pools[m]),
            )
            lanes = [hint.decode() for hint in hints]
            turn = lanes.index(first) if first in lanes else 0
            replies.append(self._run("claim", scripts.claim(me, want, turn)))
        return scripts.read_exchange(replies, ordered, want is not None, 0.0)

    def leave(self, m: str) -> Reply:
        self._run("leave", [m])
        return ()

    def _submit(self, batch: str, jobs: list[Submission]) -> list[Receipt]:
        return scripts.read_submit(self._run("submit", scripts.submit(batch, KEEP, jobs)), jobs)

    def _cancel(self, job: str, reason: str, body: bytes, ttl: int) -> str:
        found: bytes = self._run("cancel", [job, reason, body, ttl])
        return found.decode()

    def _status(self, job: str) -> str:
        found: bytes = self._run("status", [job])
        if found.startswith(b"{"):
            return str(msgspec.json.decode(found)["status"])
        return found.decode() or "unknown"

    def _promote(self) -> float | None:
        wait = self._run("promote", [])
        return None if wait < 0 else wait / 1000

    def control(self, lane: str, what: str, value: int) -> Reply:
        self._run("control", [lane, what, value])
        return ()

    def set_time(self, ms: int) -> Reply:
        self.now = ms
        nobody = Standing("nobody", 1, "", 0)
        *_, self.dumped = self.server.call(
            ("SET", "__now", ms * 1000),
            # saves the clock, also before anybody has joined
            self._script("submit", scripts.submit("nothing", KEEP, [])),
            ("DEL", PREFIX + "once:nothing"),
            self._script("claim", scripts.claim(nobody, Want(0, 0, {}), 0)),
            self._dump,
        )
        return ()

    def restart(self) -> Reply:
        self._new_life()
        self._run("hello", ["n"])
        return ()

    def flush(self) -> Reply:
        self.lost_facts = True
        self.server.flush()
        self._new_life()
        self.dumped = b""
        return ()

    def backup(self) -> Reply:
        self.saved = self.server.snapshot()
        return ()

    def fail_over(self) -> Reply:
        self.lost_facts = True
        self.server.restore(self.saved)
        self.restart()
        return self.set_time(self.now)

    def _uid_at(self, lane: str, entry: str) -> str:
        return uid_of(self.server.call(("XRANGE", f"{PREFIX}s:{lane}", entry, entry))[0][0][1][1])

    def _records(self) -> dict[str, tuple[bytes, int]]:
        # Redis counts them down on its own clock: rounded up to where they began
        rows: dict[str, Any] = self.raw["records"] or {}
        return {job: (body.encode(), math.ceil(ttl / 10_000) * 10_000) for job, (body, ttl) in rows.items()}

    def dump(self) -> dict[str, Any]:
        raw = self.raw = json.loads(self.dumped or self.server.call(self._dump)[0])
        clock = raw["clock"]
        lease, waiting = int(clock.get("l", 0)), int(clock.get("w", 0))
        expiry = {m: int(score) for m, score in raw["members"].items() if m}
        live = [m for m, end in expiry.items() if end > lease]
        lanes = {n: _Lane(raw["lanes"][n]) for n in LANES}
        letters = [dict(zip(f[::2], f[1::2], strict=True)) for _, f in raw["dead"] or []]
        return {
            "ready": {
                n: [uid_of(d) for e, d in x.entries.items() if e not in x.pending] for n, x in lanes.items()
            },
            "held": {
                n: [
                    (
                        uid_of(x.entries[e]) if e in x.entries else "gone",
                        self.owner(owner, live),
                        times,
                        x.crashes.get(e, 0),
                    )
                    for e, (owner, times) in x.pending.items()
                ]
                for n, x in lanes.items()
            },
            "delayed": {self.uids[job]: int(due) - waiting for job, due in raw["delayed"].items()},
            "moved": sorted(self.uids[job] for job in raw["moved"]),
            "keys": {key: self.uids[job] for key, job in raw["keys"].items()},
            "cancels": {
                uid_of(lanes[(at := place.split("|"))[0]].entries[at[1]]): why
                for place, why in raw["cancels"].items()
            },
            "records": self.records(),
            "dead letters": {
                n: [(uid_of(x["d"]), x["kind"]) for x in letters if x["lane"] == n] for n in LANES
            },
            "limits": {lane: int(n) for lane, n in raw["limits"].items()},
            "override": {lane: int(n) for lane, n in raw["override"].items()},
            "paused": sorted(raw["paused"] or []),
            "members": {m: (expiry[m] - lease, int(raw["sessions"][m])) for m in live},
            "hungry": {
                n: {m: lease - int(at) for m, at in x.hungry.items() if 0 <= lease - int(at) <= 1500}
                for n, x in lanes.items()
            },
            "quarantine": max(0, int(clock.get("q", 0)) - lease),
            "stats": {n: x.stats for n, x in lanes.items()},
        }


class _Lane:
    def __init__(self, raw: dict[str, Any]) -> None:
        self.entries: dict[str, str] = {e: fields[1] for e, fields in raw["entries"] or []}
        self.pending: dict[str, tuple[str, int]] = {p[0]: (p[1], p[3]) for p in raw["pending"] or []}
        self.crashes: dict[str, int] = {e: int(n) for e, n in raw["crashes"].items()}
        self.hungry: dict[str, str] = raw["hungry"]
        self.stats: dict[str, int] = {what: int(n) for what, n in raw["stats"].items()}
        assert set(self.crashes) <= set(self.pending), "a count of crashes of an entry that is not in flight"
