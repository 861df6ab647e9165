"""docs/events.md and the code name the same events, with the same levels, loggers and fields."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from tests.docs.events_in_code import events_of_the_code

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"
SECTION = re.compile(r"^### `([a-z_.]+)`\n\n(.+?)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
CODE = events_of_the_code()


@attrs.frozen
class Entry:
    """What the page says of an event."""

    levels: set[str]
    loggers: set[str]
    facts: set[str]
    text: str


def entries() -> dict[str, Entry]:
    found = {}
    for name, head, text in SECTION.findall(PAGE.read_text()):
        levels, loggers, fields = head.split(" · ")
        quoted = re.compile(r"`([^`]+)`")
        found[name] = Entry(
            set(levels.split("/")), set(quoted.findall(loggers)), set(quoted.findall(fields)), text
        )
    return found


ENTRIES = entries()


def test_the_code_says_events() -> None:
    """The reader of the code sees them; else this file would hold for an empty page."""
    assert len(CODE) > 30
    assert {"worker.started", "job.fenced", "child.killed", "listener.lost"} <= set(CODE)


def test_page_and_code_name_the_same_events() -> None:
    """None is missing, none is made up, and none stands there twice."""
    assert sorted(ENTRIES) == sorted(CODE)
    assert len(SECTION.findall(PAGE.read_text())) == len(ENTRIES)


@pytest.mark.parametrize("name", sorted(CODE))
def test_an_entry_is_right(name: str) -> None:
    """Its levels, loggers and fields are those of the code, and it says something."""
    code, page = CODE[name], ENTRIES[name]
    assert (page.levels, page.loggers) == (code.levels, code.loggers)
    assert code.facts <= page.facts <= code.facts | code.perhaps
    assert len(page.text.split()) > 8
