"""Finds and shortens the program that kills a mutant: ``python -m property_tests.lease.search [NAME …]``; no name: all.
``--table`` prints what docs/lease-machine.md shows.

Without a program in ``programs.json`` a mutant counts as alive.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from . import member
from .ledger import Violation
from .lua_mutants import Mutant
from .machine import LeaseMachine
from .mutants import MUTANTS
from .rounds import drain
from .server import Patch, Server, binaries, load_scripts, running
from .world import Program, World

PROGRAMS = Path(__file__).with_name("programs.json")


def load_member(patches: Iterable[Patch]) -> types.ModuleType:
    """The worker's rules, patched. Without a patch the module itself."""
    mine = [p for p in patches if p.file == "member.py"]
    if not mine:
        return member
    source = Path(str(member.__file__)).read_text()
    for patch in mine:
        source = patch.apply(source)
    module = types.ModuleType(f"{__package__}.mutated_member")
    module.__dict__["__package__"] = __package__
    # dataclass-like decorators look their class's module up by name
    sys.modules[module.__name__] = module
    exec(compile(source, "member.py (mutated)", "exec"), module.__dict__)
    return module


def replay(server: Server, program: Program, members: types.ModuleType = member) -> Violation | None:
    """Run a program and drain; the first broken promise, or None."""
    world = World(server, members)
    try:
        for op in program:
            world.apply(op)
        drain(world)
    except Violation as violation:
        return violation
    return None


def shorten(server: Server, program: Program, members: types.ModuleType) -> tuple[Program, Violation]:
    """Leave out what is not needed (ddmin): no operation of the result can be missed. The promise may change on the way."""
    found = replay(server, program, members)
    assert found is not None
    parts = 2
    while program:
        size = max(1, len(program) // parts)
        for i in range(0, len(program), size):
            shorter = program[:i] + program[i + size :]
            if violation := replay(server, shorter, members):
                program, found = shorter, violation
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(program), parts * 2)
    return program, found


def search(server: Server, mutant: Mutant, examples: int) -> tuple[Program, Violation] | None:
    """Let the machine look for a program on which the mutant breaks a promise; the shortest form of it."""
    server.use(load_scripts(mutant.patches))
    members = load_member(mutant.patches)
    LeaseMachine.server, LeaseMachine.members = server, members
    LeaseMachine.failed.clear()
    how = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        run_state_machine_as_test(LeaseMachine, settings=how)
    except Violation:
        pass
    finally:
        LeaseMachine.members = member
    if not LeaseMachine.failed:
        return None
    _, program = min(LeaseMachine.failed, key=lambda f: len(f[1]))
    return shorten(server, program, members)


def stored() -> dict[str, dict[str, Any]]:
    """What kills each mutant: {"promise": …, "program": [[…], …]}."""
    found: dict[str, dict[str, Any]] = json.loads(PROGRAMS.read_text()) if PROGRAMS.exists() else {}
    return found


def store(name: str, program: Program, violation: Violation) -> None:
    programs = stored()
    programs[name] = {"promise": violation.promise, "program": [list(op) for op in program]}
    ordered = {name: programs[name] for name in MUTANTS if name in programs}
    rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in ordered.items()]
    PROGRAMS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def table() -> str:
    """Which mutant is caught by which promise, as Markdown."""
    programs = stored()
    rows = ["| mutant | rule | file | caught by | operations |", "|---|---|---|---|---|"]
    for name, mutant in MUTANTS.items():
        files = ", ".join(dict.fromkeys(p.file.removesuffix(".lua") for p in mutant.patches))
        found = programs.get(name, {"promise": "-", "program": []})
        rows.append(f"| {name} | {mutant.row} | {files} | {found['promise']} | {len(found['program'])} |")
    return "\n".join(rows)


def main(names: list[str], examples: int = 400) -> int:
    """Search, store, and say what was found; the number of mutants that lived."""
    alive = []
    with running(max(binaries().items(), key=lambda b: float(b[0]))[1]) as server:
        for name in names or list(MUTANTS):
            if result := search(server, MUTANTS[name], examples):
                store(name, *result)
                print(f"{name}: {result[1]} in {len(result[0])} operations", flush=True)  # noqa: T201 - a command's output
            else:
                alive.append(name)
                print(f"{name}: ALIVE", flush=True)  # noqa: T201
    return len(alive)


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        print(table())  # noqa: T201
    else:
        sys.exit(main(sys.argv[1:]))
