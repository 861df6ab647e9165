"""Finds and shortens the program that kills a mutant: ``python -m property_tests.lease.search [NAME …]``; no name: all.
``--table`` prints what docs/lease-machine.md shows.

Without a program in ``programs.json`` a mutant counts as alive.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from . import member
from .ledger import Violation
from .machine import LeaseMachine
from .mutant import Mutant
from .mutants import MUTANTS
from .rounds import drain
from .server import Patch, Server, binaries, load_scripts, running
from .world import Program, World

TRIES = 3
"""Searches for one mutant: what the machine finds may depend on the order in which one server keeps a set."""
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


def breaks(servers: Iterable[Server], program: Program, members: types.ModuleType) -> Violation | None:
    """The promise that a program breaks on each of these servers, if it is one promise."""
    first: Violation | None = None
    for server in servers:
        found = replay(server, program, members)
        if found is None or (first is not None and found.promise != first.promise):
            return None
        first = first or found
    return first


def shorten(
    servers: Sequence[Server], program: Program, members: types.ModuleType
) -> tuple[Program, Violation]:
    """Leave out what is not needed (ddmin): no operation of the result can be missed. The promise may change on the way."""
    found = breaks(servers, program, members)
    assert found is not None
    parts = 2
    while program:
        size = max(1, len(program) // parts)
        for i in range(0, len(program), size):
            shorter = program[:i] + program[i + size :]
            if violation := breaks(servers, shorter, members):
                program, found = shorter, violation
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(program), parts * 2)
    return program, found


def search(servers: Sequence[Server], mutant: Mutant, examples: int) -> tuple[Program, Violation] | None:
    """Let the machine look, on the first server, for a program on which the mutant breaks a promise on all; its shortest form."""
    for server in servers:
        server.use(load_scripts(mutant.patches))
    members = load_member(mutant.patches)
    LeaseMachine.server, LeaseMachine.members = servers[0], members
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
    found = [program for _, program in LeaseMachine.failed if breaks(servers, program, members)]
    return shorten(servers, min(found, key=len), members) if found else None


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


@contextmanager
def all_servers() -> Iterator[list[Server]]:
    """One of each version that is here, the newest first."""
    with ExitStack() as stack:
        found = sorted(binaries().items(), key=lambda b: -float(b[0]))
        yield [stack.enter_context(running(binary)) for _, binary in found]


def main(names: list[str], examples: int = 400) -> int:
    """Search, store, and say what was found; the number of mutants that lived."""
    alive = []
    with all_servers() as servers:
        for name in names or list(MUTANTS):
            tries = (search(servers, MUTANTS[name], examples) for _ in range(TRIES))
            if result := next((found for found in tries if found), None):
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
