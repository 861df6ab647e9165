"""What docs/operations.md and the other pages say of commands, answers and defaults is what the code has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from flowq._settings import SETTINGS
from flowq.cli import jobs
from flowq.cli.commands import app as commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ANSWERS = re.findall(
    r"^\| `([^`]+)` \|",
    PAGE.partition("### What `flowq why` answers")[2].partition("\n### ")[0],
    re.MULTILINE,
)
DEFAULTS = re.findall(r"^\| `--([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)


def texts_of_why() -> list[str]:
    """The texts in the file that answers, each f-string as its fixed parts."""
    tree = ast.parse(inspect.getsource(jobs))
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_why_is_one(answer: str) -> None:
    """Each part of an answer that the table quotes stands in the code so."""
    texts = texts_of_why()
    for part in answer.split("…"):
        assert any(part.strip() in text for text in texts), part


def test_no_answer_of_why_is_missing() -> None:
    """The table has a row for each obstacle and each state."""
    assert len(ANSWERS) == len(set(ANSWERS)) >= 17


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_a_default_is_right(name: str, value: str) -> None:
    """The sizing table says the defaults in force."""
    assert str(SETTINGS[name.replace("-", "_")].default) == value


def verbs_in(text: str) -> Iterator[tuple[str, str]]:
    """What stands after ``flowq`` in code: a verb, and the word after it."""
    code = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    for line in "\n".join(code).splitlines():
        for found in re.finditer(r"(?:^|; |bin/|\| )flowq ([a-z]+)(?: ([a-z]+))?", line):
            yield found[1], found[2] or ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_verb_that_a_page_names_is_there(path: Path) -> None:
    """And the second word of a group (``flowq dead replay``), too."""
    group = typer.main.get_command(commands)
    known = group.commands  # type: ignore[attr-defined]  # typer gives a click group
    for verb, second in verbs_in(path.read_text()):
        assert verb in known, f"flowq {verb}"
        if second and hasattr(known[verb], "commands"):
            assert second in known[verb].commands, f"flowq {verb} {second}"
