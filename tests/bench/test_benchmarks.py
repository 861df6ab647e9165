"""``docs/benchmarks.md`` and ``docs/performance.md`` say what their data say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import report
from bench.peers import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tables_of_the_pages_are_their_datas() -> None:
    """Nobody has edited them by hand."""
    assert page.tables(json.loads((DOCS / page.DATA).read_text())) in (DOCS / "benchmarks.md").read_text()
    for name, text in bench.tables(json.loads((DOCS / bench.DATA).read_text())).items():
        assert text in (DOCS / name).read_text()


def test_runs_of_the_same_workload_are_no_one_run() -> None:
    """Two samples of a figure from different runs would look like one spread."""
    data = json.loads((DOCS / page.DATA).read_text())
    with pytest.raises(ValueError, match="same workload"):
        page.together([data, data])


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    """The error names them."""
    target = tmp_path / "benchmarks.md"
    target.write_text("# Nothing")
    with pytest.raises(ValueError, match="lacks the lines <!-- a --> and <!-- b -->"):
        report.write_between(target, "<!-- a -->", "text", "<!-- b -->")
    assert target.read_text() == "# Nothing"
