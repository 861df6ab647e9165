"""The explicit-state model of the lease: every mutant is killed in its smallest world, and the rules hold in the small ones.

The complete table is ``python -m property_tests.model`` (part of ``nox -s property``); ``--full`` has the long rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import attrs
import pytest

from property_tests.model.__main__ import as_expected
from property_tests.model.check import Result, search, successors
from property_tests.model.mutants import EQUIVALENT, MISREAD, MUTANTS
from property_tests.model.rows import CORRECT, FULL, SAME, SWEEP, Row
from property_tests.model.spec import violation
from property_tests.model.state import initial
from property_tests.model.world import Broken, World

BOUND = 400_000
"""Well above the largest row run here."""
PAGE = Path(__file__).parent.parent / "docs" / "lease-model.md"

pytestmark = pytest.mark.slow


def named(row: Row) -> str:
    return f"{row.group}: {row.name}"


def run(row: Row, record_property: Callable[[str, object], None]) -> Result:
    result = search(row.world, BOUND, row.every)
    record_property("states", result.states)
    print(f"{named(row)}: {result.states:,} states, {result.violation or row.expect}")  # noqa: T201 - asked for by -rP
    return result


@pytest.mark.parametrize("row", [row for row in MISREAD + MUTANTS if not row.slow], ids=named)
def test_a_broken_rule_shows(row: Row, record_property: Callable[[str, object], None]) -> None:
    """Each misreading and each mutant breaks the promise that its row names, in the world stored with it."""
    result = run(row, record_property)
    assert as_expected(row, result), result


@pytest.mark.parametrize("row", [row for row in CORRECT if row.quick], ids=named)
def test_the_rules_hold(row: Row, record_property: Callable[[str, object], None]) -> None:
    """With no rule broken every reachable state of these worlds keeps every promise; the exceptions are found where they are said to be."""
    result = run(row, record_property)
    assert as_expected(row, result), result
    assert result.complete


def test_a_trace_leads_to_its_violation() -> None:
    """The steps of a counterexample, done one by one, end in a state or a step that the spec refuses."""
    row = next(r for r in MUTANTS if r.name == "leave while bodies run")
    result = search(row.world, BOUND, row.every)
    state, bad = initial(row.world), None
    for label in result.trace:
        assert violation(row.world, state) is None
        state, bad = next(
            (after, bad) for found, after, bad in successors(row.world, state) if found == label
        )
    assert len(result.trace) == result.steps
    assert (bad or violation(row.world, state)) == result.violation


def test_a_bounded_search_says_so() -> None:
    """A search that was cut off is not complete, and a complete one is."""
    world = World(jobs=(0,), workers=(0,), joins=1, ttl=2)
    assert search(world, 10, 10)[:4] == (10, None, 0, False)
    whole = search(world, BOUND, 10)
    assert whole.complete
    assert 10 < whole.states < BOUND


def test_every_breakable_rule_is_broken_somewhere() -> None:
    """A field of ``Broken`` that no row switches on would be a mutant that is never run."""
    rows = MISREAD + MUTANTS + EQUIVALENT
    used = {name for row in rows for name, value in attrs.asdict(row.world.broken).items() if value}
    assert used == {field.name for field in attrs.fields(Broken)}
    assert all(row.world.broken == Broken() for row in CORRECT + FULL + SWEEP)
    assert all(row.expect == SAME for row in EQUIVALENT)


def test_the_page_names_what_exists() -> None:
    """Every model function, script and row that the page's table of rules names is there; no rule is without a row that breaks it."""
    text = PAGE.read_text()
    rules = re.findall(r"^\*\*(R\d+)", text, re.MULTILINE)
    table = dict(re.findall(r"^\| (R\d+) \|(.+)\|$", text, re.MULTILINE))
    assert rules == [f"R{n}" for n in range(1, len(rules) + 1)]
    assert list(table) == rules
    rows = {row.name for row in MISREAD + MUTANTS + EQUIVALENT + CORRECT + FULL + SWEEP}
    lua = PAGE.parent.parent / "flowq" / "backends" / "redis" / "lua"
    for rule, line in table.items():
        functions, scripts, breakers = (re.findall(r"`([^`]+)`", cell) for cell in line.split("|"))
        assert functions, rule
        assert breakers, rule
        for function in functions:
            module, name = function.split(".")
            assert callable(getattr(import_module(f"property_tests.model.{module}"), name)), function
        assert all((lua / f"{script}.lua").exists() for script in scripts), rule
        assert rows.issuperset(breakers), (rule, set(breakers) - rows)
