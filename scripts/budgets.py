"""Report what is over its size budget. It fails nothing: a limit that is a gate invites golf, and gets baselines.

Lines a file: 150 in ``flowq/_core``, 300 elsewhere in ``flowq``. Lines a function: 60, in Python and in Lua.
Usage: ``python scripts/budgets.py [ROOT]``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CORE_FILE, FILE, FUNCTION = 150, 300, 60
LUA_FUNCTION = re.compile(r"^(?:local\s+)?function\s+([\w.:]+).*?^end\b", re.MULTILINE | re.DOTALL)


def over_in_python(path: Path, text: str, root: Path) -> Iterator[tuple[int, int, str]]:
    """(lines, budget, what) of a module and of each function in it that is over."""
    name = path.relative_to(root).as_posix()
    budget = CORE_FILE if name.startswith("flowq/_core/") else FILE
    if (lines := len(text.splitlines())) > budget:
        yield lines, budget, name
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION:
                yield lines, FUNCTION, f"{name}:{node.lineno} {node.name}()"


def over_in_lua(path: Path, text: str, root: Path) -> Iterator[tuple[int, int, str]]:
    """(lines, budget, what) of each top-level function of a script or fragment, and of the code outside of them."""
    name = path.relative_to(root).as_posix()
    rest = len(text.splitlines())
    for found in LUA_FUNCTION.finditer(text):
        lines = found.group().count("\n") + 1
        rest -= lines
        if lines > FUNCTION:
            line = text.count("\n", 0, found.start()) + 1
            yield lines, FUNCTION, f"{name}:{line} {found.group(1)}()"
    if rest > FUNCTION:
        yield rest, FUNCTION, f"{name} (outside functions)"


def over_budget(root: Path) -> list[tuple[int, int, str]]:
    """Everything under ``root/flowq`` that is over its budget, the worst excess first."""
    found: list[tuple[int, int, str]] = []
    for path in sorted((root / "flowq").rglob("*.py")):
        found += over_in_python(path, path.read_text(), root)
    for path in sorted((root / "flowq").rglob("*.lua")):
        found += over_in_lua(path, path.read_text(), root)
    return sorted(found, key=lambda row: row[1] / row[0])


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    rows = over_budget(root)
    for lines, budget, what in rows:
        print(f"{lines:5} lines, budget {budget:3}: {what}")
    print(f"{len(rows)} over budget (a report, not a gate)")


if __name__ == "__main__":
    main()
