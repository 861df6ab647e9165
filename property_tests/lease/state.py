"""All keys of the app in one reading, as Python values."""

from __future__ import annotations

import json
from typing import Any

LANES = ("a", "b", "u")

DUMP = """
local P = ARGV[1]
local function hash(k)
  local f, h = redis.call('HGETALL', P .. k), {}
  for i = 1, #f, 2 do h[f[i]] = f[i + 1] end
  return h
end
local function zset(k)
  local f, h = redis.call('ZRANGE', P .. k, 0, -1, 'WITHSCORES'), {}
  for i = 1, #f, 2 do h[f[i] == '' and '<sentinel>' or f[i]] = f[i + 1] end
  return h
end
local function set(k) return redis.call('SMEMBERS', P .. k) end
local function field(rows, name)
  local found = {}
  for _, row in ipairs(rows) do
    for i = 1, #row, 2 do if row[i] == name then found[#found + 1] = row[i + 1] end end
  end
  return found
end
local out = {keys = {}}
for _, k in ipairs(redis.call('KEYS', P .. '*')) do
  local kind = string.match(k, '}:(%w+:)')
  if kind ~= 'once:' and kind ~= 'r:' and kind ~= 'stats:' then out.keys[#out.keys + 1] = k end
end
for _, k in ipairs({'clock', 'serve', 'limits', 'override', 'delayed:d', 'moved', 'cancels'}) do out[k] = hash(k) end
for _, k in ipairs({'members', 'expired', 'delayed'}) do out[k] = zset(k) end
for _, k in ipairs({'pools', 'paused', 'orphans'}) do out[k] = set(k) end
out.pool, out.pm, out.ready, out.bell, out.member, out.lanes = {}, {}, {}, {}, {}, {}
for _, p in ipairs(out.pools) do
  out.pool[p], out.pm[p], out.ready[p] = hash('pool:' .. p), set('pm:' .. p), set('ready:' .. p)
  local bell = redis.pcall('XINFO', 'CONSUMERS', P .. 'bell:' .. p, 'flowq')
  out.bell[p] = bell.err and {} or field(bell, 'name')
end
for _, which in ipairs({out.members, out.expired}) do
  for m in pairs(which) do out.member[m] = hash('member:' .. m) end
end
for _, lane in ipairs({'a', 'b', 'u'}) do
  local s = P .. 's:' .. lane
  local pending = redis.pcall('XPENDING', s, 'flowq', '-', '+', 1000)
  local x = {entries = redis.call('XRANGE', s, '-', '+'), group = not pending.err, pending = {}, consumers = {}}
  if not pending.err then
    x.pending, x.consumers = pending, field(redis.call('XINFO', 'CONSUMERS', s, 'flowq'), 'name')
  end
  x.crashes, x.hungry, x.full = hash('crashes:' .. lane), zset('hungry:' .. lane), set('full:' .. lane)
  out.lanes[lane] = x
end
out.dead = redis.call('XRANGE', P .. 'dead', '-', '+')
return cjson.encode(out)
"""


def _list(value: Any) -> list[Any]:
    # cjson writes an empty table as {}
    return list(value) if value else []


class Lane:
    """One stream: what waits in it and who holds what."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.entries: dict[str, str] = {e[0]: e[1][1] for e in _list(raw["entries"])}
        self.group: bool = raw["group"]
        self.pending: dict[str, tuple[str, int]] = {p[0]: (p[1], p[3]) for p in _list(raw["pending"])}
        self.consumers: list[str] = _list(raw["consumers"])
        self.crashes: dict[str, int] = {e: int(n) for e, n in raw["crashes"].items()}
        self.full: list[str] = _list(raw["full"])
        self.hungry: dict[str, float] = {m: float(s) for m, s in raw["hungry"].items()}

    @property
    def used(self) -> int:
        return len(self.pending)

    @property
    def backlog(self) -> int:
        return len(self.entries) - len(self.pending)


class State:
    """The whole app at one moment."""

    def __init__(self, dumped: bytes) -> None:
        raw = json.loads(dumped)
        self.keys: list[str] = _list(raw["keys"])
        self.clock: dict[str, str] = raw["clock"]
        self.l = float(self.clock.get("l", 0))
        self.q = float(self.clock.get("q", 0))
        members = {m: float(s) for m, s in raw["members"].items()}
        self.sentinel = members.pop("<sentinel>", None) is not None
        self.members = members
        self.expired: dict[str, str] = raw["expired"]
        self.member: dict[str, dict[str, str]] = raw["member"]
        self.serve: dict[str, list[str]] = {lane: pools.split() for lane, pools in raw["serve"].items()}
        self.limits: dict[str, int] = {lane: int(n) for lane, n in raw["limits"].items()}
        self.override: dict[str, str] = raw["override"]
        self.paused: list[str] = _list(raw["paused"])
        self.orphans: list[str] = _list(raw["orphans"])
        self.pools: list[str] = _list(raw["pools"])
        self.pool: dict[str, dict[str, str]] = {p: dict(v or {}) for p, v in raw["pool"].items()}
        self.pm: dict[str, list[str]] = {p: _list(v) for p, v in raw["pm"].items()}
        self.ready: dict[str, list[str]] = {p: _list(v) for p, v in raw["ready"].items()}
        self.bell: dict[str, list[str]] = {p: _list(v) for p, v in raw["bell"].items()}
        self.delayed: dict[str, str] = raw["delayed"]
        self.delayed_data: dict[str, str] = raw["delayed:d"]
        self.moved: dict[str, str] = raw["moved"]
        self.cancels: dict[str, str] = raw["cancels"]
        self.lanes = {name: Lane(lane) for name, lane in raw["lanes"].items()}
        self.dead: list[dict[str, str]] = [
            dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in _list(raw["dead"])
        ]

    def live(self, member: str) -> bool:
        """Has this member a lease that runs?"""
        return self.members.get(member, 0.0) > self.l

    def holders(self, lane: str) -> tuple[int, int]:
        """Entries of a lane owned by the living and by the dead."""
        dead = sum(not self.live(owner) for owner, _ in self.lanes[lane].pending.values())
        return self.lanes[lane].used - dead, dead

    def hungry(self, lane: str, but: str) -> set[str]:
        """Members other than this one that are marked hungry, not longer ago than a mark counts."""
        marks = self.lanes[lane].hungry.items()
        return {m for m, score in marks if m != but and self.l - 1500 <= score <= self.l}
