"""docs/guarantees.md and the README's table name tests and clauses that exist, and say the same promises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from flowq.testing.conformance import ALL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
README = (ROOT / "README.md").read_text()
NAMED = re.compile(r"`((?:tests|property_tests)/[\w/]+\.py)::(\w+)`")
PROMISES = dict(re.findall(r"^## (P\d) (.+)$", PAGE, re.MULTILINE))
NAMED_TESTS = sorted({*NAMED.findall(PAGE), *NAMED.findall(README)})


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name} ")[2].partition("\n## ")[0]


def row(name: str) -> str:
    """The promise's row in the README's table."""
    [line] = re.findall(rf"^\| {name} \|.*$", README, re.MULTILINE)
    return str(line)


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_a_named_test_exists(path: str, name: str) -> None:
    """And is a test: pytest finds it under that name."""
    tree = ast.parse((ROOT / path).read_text())
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.startswith("test_")
    assert name in functions


def test_named_clauses_exist() -> None:
    """They are checks of the contract, run for every backend."""
    named = set(re.findall(r"`(check_\w+)`", PAGE))
    assert len(named) > 10
    assert named <= {check.__name__ for check in ALL}


@pytest.mark.parametrize("name", [f"P{n}" for n in range(1, 9)])
def test_each_promise_is_whole(name: str) -> None:
    """Words, assumption, limit, what holds then, and at least two tests; the README says it under the same title, with a test."""
    text = section(name)
    for part in ("\n> ", "**Assumes**", "**Where it ends.**", "**What then holds.**", "**Shown by**"):
        assert part in text, part
    assert len(NAMED.findall(text)) >= 2
    assert f"**{PROMISES[name]}.**" in row(name)
    assert NAMED.search(row(name))
