"""Rules, scripts, model rows, mutants: one map, read from where each is written, and the page made from it.

The rules are numbered in docs/lease-model.md, whose table names the model's functions and rows; each script's header names its rules;
``BREAKS`` says which rules a mutant of the code breaks. ``python -m property_tests.rules`` writes the tables of docs/checkers.md, and
the digests of the rules' words (``rules.json``): a rule that is worded anew must be looked for in all of these places first.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from property_tests.lease.mutants import MUTANTS, NOT_EXPRESSIBLE
from property_tests.lease.search import stored
from property_tests.lease.ttl_mutants import CHANGE
from property_tests.model.mutants import MISREAD
from property_tests.model.mutants import MUTANTS as ROWS
from tests.stress.broken import BROKEN, seen

ROOT = Path(__file__).parents[1]
LUA = ROOT / "flowq" / "backends" / "redis" / "lua"
MODEL_PAGE = ROOT / "docs" / "lease-model.md"
PAGE = ROOT / "docs" / "checkers.md"
DIGESTS = Path(__file__).with_name("rules.json")

WORKERS = frozenset({"R7", "R9"})
"""Rules that the worker keeps, and no script."""
UNBROKEN = {
    "R16": "no stored program: a lost ring shows as idle time, which the model's rows and the doorbell clauses of conformance measure",
}
"""Rules that no mutant of the code breaks, and why; empty for a rule that got one."""

BREAKS = {
    "R1": (
        *(
            "no quarantine",
            "quarantine half as long",
            "an empty server is no restart",
            "no sentinel after a loss",
        ),
        *("a lost group is made anew, that is all", "a lost group is made anew at $", "epoch is a counter"),
        *(
            "members lost alone are not missed",
            "run_id alone is the identity",
            "replid alone is the identity",
        ),
        *("a new connection is not told", "a new replid is a failover", "raw TIME as the waiting clock"),
        *(
            "quarantine blocks new entries only",
            "waiting clock begins at 0",
            "a settle after XGROUP DESTROY fails",
        ),
        "a lost group is not looked for",
    ),
    "R2": (
        *(
            "a former life's entries are not handed back",
            "a kept suspect is forgotten",
            "one id for every life",
        ),
        "joins again while bodies unwind",
    ),
    "R3": (
        *(
            "a renewal confirms unasked",
            "raw TIME as the lease clock",
            "a refused epoch extends the deadline",
        ),
        "deadline from the reply",
    ),
    "R4": ("the unconfirmed goes on", "confirm without the delivery count"),
    "R5": (
        *(
            "no `mine`",
            "`mine` only if a request was in flight",
            "`mine` takes back what runs",
            "session stays",
        ),
        *(
            "`mine` keeps no session",
            "a `mine` of an older session counts",
            "only the first entry is handed back",
        ),
        "what is handed back is not looked for",
    ),
    "R6": (
        *(
            "no limit",
            "own pending only",
            "used without the dead's entries",
            "adoption bounded by limit - used",
        ),
        *(
            "adoption bounded by want only",
            "adoption from the living",
            "what nobody owns is adopted by nobody",
        ),
        *("quarantine blocks new entries only", "no session", "the fence follows TIME back", "group at $"),
        *("claim without the epoch, at both ends", "debts are paid by adoption only"),
    ),
    "R7": (
        *("claim without the epoch, at both ends", "a claim extends the deadline", "no margin"),
        "reply of a connection given up",
    ),
    "R8": (
        *("settle without the delivery count", "settle without the owner", "settle without the epoch"),
        *("release that acks", "XACK without XDEL", "XDEL without XACK", "XTRIM takes what is still pending"),
        *("XTRIM one too far", "XTRIM one too few", "entries are ordered by their time alone"),
        *(
            "what lies beyond a pending entry stays",
            "crash counts outlive their entry",
            "a cancel outlives its entry",
        ),
        *("a moved job's row outlives it", "the idempotency key outlives its job"),
        "a retry ignores that its job was cancelled",
    ),
    "R9": (
        *("no watchdog", "limited bodies outlive the lease", "deadline from the reply", "no margin"),
        "joins again while bodies unwind",
    ),
    "R10": ("leaves while bodies run", "`leave` keeps what is owned"),
    "R11": ("lowering a limit takes tokens", "limit not recomputed when a pool goes"),
    "R12": ("promote without ZREM", "a promoted job is not marked ready", "no batch marker"),
    "R13": ("own entries are read again",),
    "R14": (
        *("greedy claims", "hunger does not expire", "hunger outlives a lost clock"),
        "parts by all who serve",
    ),
    "R15": (
        *(
            "no dead letter",
            "crashes are not counted",
            "a dead letter stays in its stream",
            "suspects unbounded",
        ),
        *(
            "a suspect that ended bars the next",
            "a kept suspect is forgotten",
            "a hand-back counts as a crash",
        ),
    ),
    "R16": ("a claim that leaves work wakes nobody",),
    "R17": (
        *("orphans not set at the burial", "ready removed although orphans are left"),
        *("a promoted job is not marked ready", "what is handed back is not looked for"),
        "a lost group is not looked for",
    ),
    "R18": tuple(one.name for one in CHANGE),
}
"""Rule → mutants that leave it out. A mutant that is named nowhere here breaks what the header of its script names."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "jobs are popped before the token is had (v0.0.4.1: lost with their worker)": (
        "bench pop_first test_pop_before_the_token_loses_what_gets_none",
    ),
    "a lock at the head of one set (v0.0.4: the head starves the rest)": (
        "bench head_lock test_the_lock_at_the_head_runs_one_at_a_time_and_loses_none",
    ),
    "release without an owner check": (
        "machine settle without the owner",
        "model no owner check in settle",
        "agreement settle without the owner",
    ),
    "settle without the delivery count": (
        "machine settle without the delivery count",
        "model W6 settle fenced by (member, id) only",
    ),
    "settle with neither owner nor count": ("chaos settle by whoever says so",),
    "trust counted from the reply's arrival": (
        "machine deadline from the reply",
        "model deadline from the reply's arrival",
    ),
    "adoption without expiry": (
        "machine adoption from the living",
        "model adoption without expiry check",
        "agreement adoption from the living",
        "chaos adoption from the living",
    ),
    "a lost claim reply is never reconciled": (
        "machine no `mine`",
        "model no mine",
        "chaos a lost claim reply is never reconciled",
    ),
    "no quarantine after a failover": (
        "machine no quarantine",
        "model no quarantine",
        "agreement no quarantine",
        "chaos no quarantine",
    ),
    "raw server time": ("machine raw TIME as the lease clock", "chaos raw TIME as the lease clock"),
    "the group is created at `$`": ("machine group at $",),
    "the stream is trimmed by MAXLEN": ("agreement the stream is trimmed by MAXLEN",),
}
"""What the proof has to catch by name → who catches it: the machine's stored program, a row of the model, agreement, the bench, or a
chaos run on the broken code."""


def rules() -> dict[str, str]:
    """Number → its words, as they stand in the page."""
    text = MODEL_PAGE.read_text().partition("\n## Rules\n")[2].partition("\n| rule |")[0]
    found = re.findall(r"^\*\*(R\d+) (.+?)(?=^\*\*R\d+ |\Z)", text, re.MULTILINE | re.DOTALL)
    return {number: words.strip() for number, words in found}


def digests() -> dict[str, str]:
    return {number: hashlib.sha256(words.encode()).hexdigest()[:16] for number, words in rules().items()}


def headers() -> dict[str, list[str]]:
    """Script or fragment → the rules that its header names. A file without such a line is missing here."""
    found: dict[str, list[str]] = {}
    for path in sorted(LUA.glob("*.lua")):
        line = re.search(r"^-- Rules \(docs/lease-model\.md\): (.+)\.$", path.read_text(), re.MULTILINE)
        if line:
            found[path.stem] = re.findall(r"R\d+", line[1])
    return found


def page_table() -> dict[str, list[list[str]]]:
    """Rule → model functions, scripts, model rows, as docs/lease-model.md lists them."""
    table = re.findall(r"^\| (R\d+) \|(.+)\|$", MODEL_PAGE.read_text(), re.MULTILINE)
    return {rule: [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")] for rule, line in table}


def breakers() -> dict[str, list[str]]:
    """Rule → the mutants of the code that break it: those that ``BREAKS`` names, and new ones by their script's header."""
    named = {name for names in BREAKS.values() for name in names}
    found = {rule: [name for name in BREAKS.get(rule, ()) if name in MUTANTS] for rule in rules()}
    for name, mutant in MUTANTS.items():
        for patch in mutant.patches if name not in named else ():
            for rule in headers().get(patch.file.removesuffix(".lua"), ()):
                found[rule].append(name)
    return found


def rules_table() -> str:
    lines = [
        "| rule | scripts | rows of the model that break it | mutants of the code that break it |",
        "|---|---|---|---|",
    ]
    broken = breakers()
    for rule, words in rules().items():
        _, scripts, rows = page_table()[rule]
        title = words.partition("**")[0].rstrip(".")
        kept = ", ".join(f"`{script}`" for script in scripts) or "the worker's"
        mutants = "; ".join(dict.fromkeys(broken[rule])) or f"– ({UNBROKEN[rule]})"
        lines.append(f"| {rule} {title} | {kept} | {'; '.join(rows)} | {mutants} |")
    return "\n".join(lines)


def _told(check: str) -> str:
    kind, _, name = check.partition(" ")
    if kind == "machine":
        row = stored()[name]
        return f"machine: *{name}* breaks “{row['promise']}” (program of {len(row['program'])})"
    if kind == "model":
        expected = next(row.expect for row in (*MISREAD, *ROWS) if row.name == name)
        return f"model: {expected}" if re.match(r"W\d", name) else f"model: *{name}* ends in {expected}"
    if kind == "bench":
        design, _, test = name.partition(" ")
        return f"built as [{design}.py](../bench/designs/{design}.py): [measured](designs.md), and `tests/bench/test_designs.py::{test}`"
    if kind == "chaos":
        return f"chaos run: *{name}*, “{seen()[name]['row']}”"
    return f"agreement: *{name}* disagrees"


GONE = {
    12: "XCLAIM FORCE by id",
    13: "FORCE on a backlog entry",
    14: "ghosts that outlive FENCED",
    15: "a repeated renewal that does not know its ghost",
    16: "ghosts that are not counted",
}
"""Misreadings of what is not there any more."""


def misreadings() -> dict[str, tuple[str, ...]]:
    """W1 to W16, the readings of the first draft that broke a promise → who catches each."""
    found: dict[str, tuple[str, ...]] = {}
    for n in range(1, 17):
        rows = [row.name for row in MISREAD if row.name.startswith(f"W{n} ")]
        mutants = [name for name, mutant in MUTANTS.items() if mutant.row == f"W{n}" and name in stored()]
        title = rows[0] if rows else f"W{n} {GONE[n]}"
        found[title] = (
            *(f"machine {name}" for name in mutants),
            *(f"model {name}" for name in rows),
            *(f"chaos {name}" for name in mutants if name in BROKEN),
        )
    return found


def variants_table() -> str:
    lines = ["| broken on purpose | caught by |", "|---|---|"]
    for what, checks in (VARIANTS | misreadings()).items():
        gone = NOT_EXPRESSIBLE["W12–W17 (XCLAIM FORCE, ghosts)"]
        lines.append(f"| {what} | {'; '.join(map(_told, checks)) or f'– ({gone})'} |")
    return "\n".join(lines)


def chaos_table() -> str:
    """What a chaos run on broken code said, when it was last tried."""
    lines = [
        "| broken on purpose | the row that was wrong | it said | its first evidence |",
        "|---|---|---|---|",
    ]
    for name, found in seen().items():
        evidence = " ".join(found["evidence"]).replace("|", "\\|")
        options = f" (`{' '.join(BROKEN[name].options)}`)" if BROKEN[name].options else ""
        lines.append(f"| {name}{options} | {found['row']} | {found['answer']} | {evidence} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with its tables as they are now."""
    for name, table in (("variants", variants_table()), ("chaos", chaos_table()), ("rules", rules_table())):
        begin, end = f"<!-- {name}: python -m property_tests.rules -->\n", f"\n<!-- {name} end -->"
        head, _, rest = page.partition(begin)
        page = head + begin + table + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
    DIGESTS.write_text(json.dumps(digests(), indent=1) + "\n")
