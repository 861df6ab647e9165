"""The code broken on purpose: each mutant is a textual patch of a shipped ``.lua`` or of the worker's rules in ``member.py``.

A patch whose text does not occur exactly once fails the build. ``search.py`` finds for each the shortest program that breaks a
promise; ``programs.json`` keeps it, and ``property_tests/test_mutants.py`` replays it: it fails on the mutant and passes on what is shipped.
"""

from __future__ import annotations

from .lua_mutants import CRASHES, LIMITS, OWNERS, QUARANTINE, WORK, Mutant, mutant

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
        ("            or any(h.body or h.ended for h in self.known.values())\n", ""),
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
