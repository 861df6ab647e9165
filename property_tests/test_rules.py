"""Rules ↔ scripts ↔ model ↔ mutants, both ways; and docs/checkers.md says it as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stress.broken import BROKEN, copy, seen

from .lease.mutants import MUTANTS, NOT_EXPRESSIBLE
from .lease.search import stored
from .model.mutants import EQUIVALENT, MISREAD
from .model.mutants import MUTANTS as ROWS
from .rules import (
    BREAKS,
    DIGESTS,
    GONE,
    LUA,
    PAGE,
    ROOT,
    UNBROKEN,
    VARIANTS,
    WORKERS,
    breakers,
    digests,
    headers,
    misreadings,
    page_table,
    rules,
    with_tables,
)
from .test_agreement import DISAGREE


def test_a_reworded_rule_is_looked_at_everywhere() -> None:
    """The words of each rule are those that were checked against scripts, model and mutants when ``rules.json`` was written."""
    now, then = digests(), json.loads(DIGESTS.read_text())
    changed = [rule for rule in now | then if now.get(rule) != then.get(rule)]
    assert not changed, (
        f"{changed} changed in docs/lease-model.md: look at their scripts, model rows and mutants "
        f"({ {rule: page_table().get(rule) for rule in changed} }), then run python -m property_tests.rules"
    )


def test_scripts_and_rules_name_each_other() -> None:
    """Every script and fragment says which rules it keeps, or none; the page's table lists the same ones; no rule is without a keeper."""
    kept = headers()
    assert set(kept) == {path.stem for path in LUA.glob("*.lua")}
    assert {rule for named in kept.values() for rule in named} == set(rules()) - WORKERS
    for rule, (_, scripts, _) in page_table().items():
        assert sorted(scripts) == sorted(name for name, named in kept.items() if rule in named), rule


def test_every_rule_has_its_rows_and_mutants() -> None:
    """Each rule has rows of the model that break it, and mutants of the code, or a reason why not; each mutant breaks a rule."""
    broken = breakers()
    for rule, (functions, _, rows) in page_table().items():
        assert functions
        assert rows
        assert broken[rule] or rule in UNBROKEN, rule
    assert set(page_table()) == set(rules())
    assert {name for names in broken.values() for name in names} == set(MUTANTS)
    assert set(BREAKS) <= set(rules())


def test_every_row_of_the_model_belongs_to_a_rule() -> None:
    """A broken variant of the model that no rule names would show nothing about the rules."""
    named = {row for _, _, rows in page_table().values() for row in rows}
    assert named >= {row.name for row in (*MISREAD, *ROWS)}
    assert named <= {row.name for row in (*MISREAD, *ROWS, *EQUIVALENT)}


@pytest.mark.parametrize("what", VARIANTS)
def test_each_broken_variant_is_caught_by_what_exists(what: str) -> None:
    """The checks that the page names are there: a stored program, a row of the model, a mutant that disagrees, a design in the bench, a
    chaos run that said so.
    """
    assert VARIANTS[what]
    for check in VARIANTS[what]:
        kind, _, name = check.partition(" ")
        match kind:
            case "machine":
                assert name in stored()
            case "model":
                assert name in {row.name for row in (*MISREAD, *ROWS)}
            case "agreement":
                assert name in DISAGREE
            case "chaos":
                assert seen()[name]["row"].startswith(BROKEN[name].row)
            case _:
                design, _, test = name.partition(" ")
                assert (ROOT / "bench" / "designs" / f"{design}.py").exists()
                assert f"def {test}(" in (ROOT / "tests" / "bench" / "test_designs.py").read_text()


def test_every_misreading_is_caught_or_cannot_be_written() -> None:
    """W1 to W11 are caught; W12 to W16 need XCLAIM FORCE or ghosts, which are not there."""
    found = misreadings()
    assert [w for w, checks in found.items() if not checks] == [f"W{n} {what}" for n, what in GONE.items()]
    assert "W12–W17 (XCLAIM FORCE, ghosts)" in NOT_EXPRESSIBLE
    assert not any("FORCE" in path.read_text() for path in LUA.glob("*.lua"))


def test_every_defect_was_seen_by_a_chaos_run(tmp_path: Path) -> None:
    """Each that ``tests.stress.broken`` knows was tried and noticed, and can be put into the code as it is today."""
    assert list(seen()) == list(BROKEN)
    for name, broken in BROKEN.items():
        copy(broken, tmp_path / name)


def test_the_page_is_as_it_was_generated() -> None:
    """``python -m property_tests.rules`` would write the same."""
    page = PAGE.read_text()
    assert with_tables(page) == page
