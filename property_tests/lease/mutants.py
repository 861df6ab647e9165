"""The code broken on purpose: each mutant is a textual patch of a shipped ``.lua`` or of the worker's rules in ``member.py``.

A patch whose text does not occur exactly once fails the build. ``search.py`` finds for each the shortest program that breaks a
promise; ``programs.json`` keeps it, and ``property_tests/test_mutants.py`` replays it: it fails on the mutant and passes on what is shipped.
"""

from __future__ import annotations

from .lua_mutants import LIMITS, OWNERS, QUARANTINE
from .mutant import Mutant, mutant
from .ttl_mutants import CHANGE
from .work_mutants import CRASHES, ENDS, WORK

MEMBER = (
    mutant(
        "reply of a connection given up",
        "W7",
        "member.py",
        ("        if request is not self.waiting:\n            return\n", ""),
    ),
    mutant(
        "no `mine`",
        "LEASE §3",
        "member.py",
        ("        self.greeted = self.reconciled = False\n", "        self.greeted = False\n"),
    ),
    mutant(
        *("`mine` only if a request was in flight", "LEASE §3", "member.py"),
        (
            "        self.greeted = self.reconciled = False\n",
            "        self.greeted, self.reconciled = False, self.reconciled and self.waiting is None\n",
        ),
        ("        self.confirmed = self.reconciled = False\n", "        self.confirmed = False\n"),
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
        ("max(self.deadline, request.sent + self.times.local)", "max(self.deadline, now + self.times.local)"),
    ),
    mutant(
        *("a claim extends the deadline", "LEASE §3", "member.py"),
        (
            "            self._start(now)\n\n    def _on_settle",
            "            self._start(now)\n            self.deadline = max(self.deadline, now + self.times.local)\n\n    def _on_settle",
        ),
    ),
    mutant(
        *("a refused epoch extends the deadline", "LEASE §2.3", "member.py"),
        (
            "        elif renewed.status is Status.EPOCH:\n            self._doubt()\n",
            "        elif renewed.status is Status.EPOCH:\n            self._doubt()\n            self.deadline = max(self.deadline, request.sent + self.times.local)\n",
        ),
    ),
    mutant(
        *("no margin", "LEASE §2 inequalities", "member.py"),
        (
            "        return Times.of(int(min(both) * 1000) if both else self.ttl)\n",
            (
                "        times = Times.of(int(min(both) * 1000) if both else self.ttl)\n"
                "        return Times(times.ttl, times.ttl, times.renew_every, times.unwind)\n"
            ),
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
        ("            or any(h.body or h.ended for h in self.known.values())\n", ""),
    ),
    mutant(
        "one id for every life",
        "LEASE §2.2",
        "member.py",
        ('new = f"{self.name}.{next(self._ids)}"', 'new = f"{self.name[:2]}"'),
    ),
)

_ALL = (*LIMITS, *QUARANTINE, *OWNERS, *ENDS, *CRASHES, *WORK, *MEMBER, *CHANGE)
MUTANTS: dict[str, Mutant] = {m.name: m for m in _ALL}

NOT_EXPRESSIBLE = {
    "W8 (`mine` before confirm)": "the loop has one request outstanding: nothing becomes known between the two lists",
    "W12–W17 (XCLAIM FORCE, ghosts)": "there is no FORCE and no ghost in these scripts",
    "I2": "the fence is no detector of anything here",
    "I4": "every delivery passes the claim: nothing judges a lane's class locally",
    "I5, I9": "exceptions of two promises, and what a TTL costs: the checks and the docs say them",
    "I6": "CLOCK_BOOTTIME is the keeper's; the machine has one clock for all workers",
    "I7": "is the rule (CORRECTIONS 1.3): settle does not test for liveness",
    "I10": "is a check (leak), made at rest only",
    "retry in two steps, promote in two steps": "each is one script; a half of it would be a new script, not a patch",
    "renew re-adds an expired member": "equivalent (LEASE §3): expiry frees no slot",
    "claim without liveness": "equivalent (LEASE §3): what the dead are granted cannot start and is adoptable at once",
    "confirm without the owner": "equivalent while n is compared: the same n at another owner means that the entry was given out again, "
    "limited ones not before the first one's deadline; an unlimited body goes on for nothing and its settle is refused",
    "late reply starts after the deadline": "the watchdog looks before every reply; without it that is `no watchdog`",
    "session number with a TTL (CORRECTIONS 1.7)": "Redis expires keys by its own clock, which has no seam",
}
