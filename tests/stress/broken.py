"""Is the witness able to fail? Code broken on purpose, and the row of its table that must say so.

``python -m tests.stress.broken [NAME…]`` does a chaos run on a copy of the code with each defect in it (all of them without a name: a
quarter of an hour), and writes what it saw to ``broken.json``, from which docs/checkers.md has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import attrs
import typer

from property_tests.lease.mutants import MUTANTS
from property_tests.lease.server import Patch

ROOT: Final = Path(__file__).parents[2]
LUA: Final = "flowq/backends/redis/lua"
SEEN: Final = Path(__file__).with_name("broken.json")
SEED: Final = 7
RUN: Final = ("--seconds", "40", "--every", "1", "--promises")
POWER_LOSS: Final = "--power-loss"


@attrs.frozen
class Broken:
    """A defect, and what the witness must answer wrongly about it: a question begins with ``row``."""

    row: str
    patches: tuple[Patch, ...]
    options: tuple[str, ...] = ()


def _script(name: str, row: str, *options: str) -> Broken:
    """A mutant of the lease machine that is one of scripts alone."""
    patches = tuple(Patch(f"{LUA}/{patch.file}", patch.old, patch.new) for patch in MUTANTS[name].patches)
    return Broken(row, patches, options)


def _code(row: str, *patches: tuple[str, str, str]) -> Broken:
    return Broken(row, tuple(Patch(*patch) for patch in patches))


BROKEN: Final[dict[str, Broken]] = {
    "no limit": _script("no limit", "peak"),
    "no quarantine": _script("no quarantine", "peak", POWER_LOSS),
    "raw TIME as the lease clock": _script("raw TIME as the lease clock", "peak"),
    "adoption from the living": _script("adoption from the living", "peak"),
    "used without the dead's entries": _script("used without the dead's entries", "peak"),
    "a lost lease cancels nothing": _code(
        "peak",
        ("flowq/_runtime/floor.py", "self.drop([*self.ready, *running])", "self.drop([*self.ready])"),
    ),
    "settle by whoever says so": _code(
        "stale bodies",
        (f"{LUA}/settle.lua", "if n > 4 then", "if false then"),
        (f"{LUA}/settle.lua", "own[1][2] == m and own[1][4] == times", "true"),
    ),
    "no batch marker": _script("no batch marker", "submits that became two jobs"),
    "release that acks": _script("release that acks", "lost"),
    "orphans not set at the burial": _script("orphans not set at the burial", "lost"),
    "no session": _script("no session", "lost"),
    "a lost claim reply is never reconciled": _code(
        "lost",
        (
            "flowq/_runtime/reconcile.py",
            "return self._member.must_confirm or self._member.generation != self._backend.generation",
            "return self._member.must_confirm",
        ),
        (
            "flowq/_runtime/exchange.py",
            "            floor.put_back(sent)\n            member.must_confirm = True\n",
            "            floor.put_back(sent)\n",
        ),
    ),
    "no dead letter": _script("no dead letter", "lost"),
}


def seen() -> dict[str, dict[str, Any]]:
    """What each defect looked like when it was last tried."""
    found: dict[str, dict[str, Any]] = json.loads(SEEN.read_text())
    return found


def copy(broken: Broken, target: Path) -> None:
    """The code with a defect in it.

    Raises:
        BuildError: the code is not what it was when the defect was written.
    """
    for part in ("flowq", "tests"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in broken.patches:
        path = target / patch.file
        path.write_text(patch.apply(path.read_text()))


def try_one(name: str, *, seed: int = SEED) -> dict[str, Any]:
    """A chaos run on it: the rows that were wrong, and the first evidence of the one that had to be."""
    broken = BROKEN[name]
    with tempfile.TemporaryDirectory(prefix="fq-broken-") as folder:
        target = Path(folder)
        copy(broken, target)
        said = subprocess.run(
            [sys.executable, "-m", "tests.stress", *RUN, *broken.options, "--seed", str(seed), "--out", str(target)],
            cwd=target, env=os.environ | {"PYTHONPATH": str(target), "TMPDIR": str(target)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not (target / "stress.json").exists():
            raise RuntimeError(f"{name}: the run itself failed:\n{said.stdout}\n{said.stderr}")
        rows = json.loads((target / "stress.json").read_text())["rows"]
    wrong = [row for row in rows if not row["right"]]
    at_fault = next((row for row in wrong if row["question"].startswith(broken.row)), None)
    return {
        "caught": at_fault is not None,
        "row": at_fault["question"] if at_fault else broken.row,
        "answer": at_fault["answer"] if at_fault else "",
        "evidence": at_fault["details"][:1] if at_fault else [],
        "also": [row["question"] for row in wrong if row is not at_fault],
        "run": " ".join([*RUN, *broken.options, "--seed", str(seed)]),
    }


def main(names: list[str]) -> int:
    """Try them, and write down what was seen."""
    missed = 0
    for name in names or BROKEN:
        found = try_one(name)
        typer.echo(f"{name}: {'caught' if found['caught'] else 'MISSED'}: {json.dumps(found)}")
        if found.pop("caught"):
            known = seen() if SEEN.exists() else {}
            SEEN.write_text(
                json.dumps(
                    {n: (known | {name: found})[n] for n in BROKEN if n in known or n == name}, indent=1
                )
                + "\n"
            )
        else:
            missed += 1
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
