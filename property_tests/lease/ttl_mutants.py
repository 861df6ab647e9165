"""Mutants of a change of the lease TTL under a running fleet (LEASE R18): of the scripts and of the worker."""

from __future__ import annotations

from .mutant import mutant

CHANGE = (
    mutant(
        "a change opens at once",
        "R18",
        "change.lua",
        ("  blocker = dissenter(members, 'heard', change)\n", "  blocker = nil\n"),
    ),
    mutant(
        "a change completes at once",
        "R18",
        "change.lua",
        ("    blocker = dissenter(members, 'ttl', string.match(change, ' (%d+) '))\n", ""),
    ),
    mutant(
        "a longer TTL waits until the change is complete",
        "R18",
        "change.lua",
        ("  if larger <= c.ttl then return end\n", "  if true then return end\n"),
    ),
    mutant(
        "a longer TTL does not prolong the quarantine",
        "R18",
        "change.lua",
        ("  if began and began + ttl > c.q then\n", "  if false then\n"),
    ),
    mutant(
        "a lost clock begins with the caller's own TTL",
        "R18",
        "join.lua",
        ("  c.ttl = math.max(ttl, heard_from or 0, heard_to or 0)\n", "  c.ttl = ttl\n"),
    ),
    mutant(
        "a worker trusts its own TTL at once",
        "R18",
        "member.py",
        ("Times.of(int(min(both) * 1000) if both else self.ttl)", "Times.of(self.ttl)"),
    ),
    mutant(
        "a shorter TTL does not cut the lease that runs",
        "R18",
        "member.py",
        ("self.deadline = min(self.deadline, now + self.times.local)", "pass"),
    ),
    mutant(
        "a rejoin does not say which change it heeds",
        "R18",
        "member.py",
        ('            heard=self.heard or (self.waits_for and f"?{self.waits_for}"),\n', ""),
    ),
    mutant(
        "a worker that was left behind begins too short a quarantine",
        "R18",
        "join.lua",
        (
            "  outlast(c, math.min(silence, LONGEST_LEASE)) -- meanwhile the TTL may have been raised to that\n",
            "",
        ),
    ),
    mutant(
        "a longer TTL is complete sooner than it is long",
        "R18",
        "change.lua",
        ("    if c.l < tonumber(v[4] or 0) then blocker = blocker or members[#members] end\n", ""),
    ),
    mutant(
        "a worker with another TTL may join",
        "LEASE §2.2",
        "join.lua",
        ("  if not alone() then return {'TTL', c.ttl, change or ''} end\n", ""),
    ),
)
