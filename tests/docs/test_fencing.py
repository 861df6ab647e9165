"""The recipes of docs/guarantees.md for fencing what is outside, run as they stand on the page."""

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowq
from flowq.testing import worker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    """All names that the section's blocks define."""
    section = PAGE.read_text().partition("\n## Fencing what is outside\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), found)
    return found


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "db", timeout=10)
    connection.execute("CREATE TABLE totals (account TEXT PRIMARY KEY, total INTEGER, fence INTEGER)")
    connection.execute("CREATE TABLE fences (resource TEXT PRIMARY KEY, fence INTEGER)")
    connection.execute("CREATE TABLE entries (fence INTEGER, line INTEGER)")
    connection.commit()
    yield connection
    connection.close()


@pytest.mark.parametrize("order", list(itertools.permutations((10**15 + 1, 10**15 + 2, 10**15 + 10))))
def test_a_stale_row_is_refused_in_any_order(
    order: tuple[int, ...], db: sqlite3.Connection, recipes: dict[str, Any]
) -> None:
    """Each write counts if and only if no newer one came before it; the newest stays; its repetition is taken."""
    newest = 0
    for fence in order:
        assert recipes["store_total"](db, "a", fence, fence) == (fence > newest)
        newest = max(newest, fence)
    assert recipes["store_total"](db, "a", 7, newest)
    assert db.execute("SELECT total, fence FROM totals").fetchall() == [(7, newest)]


def test_a_stale_transaction_writes_none_of_its_rows(db: sqlite3.Connection, recipes: dict[str, Any]) -> None:
    """Also of those before and after a newer delivery's; and of another resource it says nothing."""
    stale: list[int] = []
    for fence in (5, 9, 6, 9, 8, 11):
        try:
            with db:
                recipes["take_fence"](db, "ledger", fence)
                db.executemany("INSERT INTO entries VALUES (?, ?)", [(fence, line) for line in range(3)])
        except recipes["Stale"]:
            stale.append(fence)
    assert stale == [6, 8]
    assert [row[0] for row in db.execute("SELECT DISTINCT fence FROM entries ORDER BY rowid")] == [5, 9, 11]
    with db:
        recipes["take_fence"](db, "another", 1)


def test_writers_at_once_leave_the_newest(
    db: sqlite3.Connection, tmp_path: Path, recipes: dict[str, Any]
) -> None:
    """Eight threads, a connection each: whatever the order in which the database takes them."""

    def write(fence: int) -> None:
        mine = sqlite3.connect(tmp_path / "db", timeout=30)
        try:
            recipes["store_total"](mine, "a", fence, fence)
        finally:
            mine.close()

    _at_once(write, range(1, 9))
    assert db.execute("SELECT total, fence FROM totals").fetchall() == [(8, 8)]


def test_a_stale_version_is_never_read(tmp_path: Path, recipes: dict[str, Any]) -> None:
    """Readers see the greatest fence whatever came last, numbers of different length sort as numbers, and no draft stays."""
    publish, newest = recipes["publish"], recipes["newest"]
    assert newest(tmp_path, "report") is None
    for fence in (9, 100, 20, 99):
        publish(tmp_path, "report", b"%d" % fence, fence)
    assert newest(tmp_path, "report") == b"100"
    publish(tmp_path, "report", b"another body of this delivery", 100)
    assert newest(tmp_path, "report") == b"100"
    assert len(list(tmp_path.iterdir())) == 4


def test_publishers_at_once_leave_whole_versions(tmp_path: Path, recipes: dict[str, Any]) -> None:
    """Nobody reads half a file: a version is there whole, or not yet."""
    seen: list[bytes | None] = []

    def write(fence: int) -> None:
        recipes["publish"](tmp_path, "report", b"%d," % fence * 10_000, fence)
        seen.append(recipes["newest"](tmp_path, "report"))

    _at_once(write, range(1, 9))
    assert recipes["newest"](tmp_path, "report") == b"8," * 10_000
    assert {found[:2] * 10_000 == found for found in seen if found} == {True}


async def test_a_bodys_fence_fits_the_recipe(
    tmp_path: Path, db: sqlite3.Connection, recipes: dict[str, Any]
) -> None:
    """A retried job's second delivery bears a greater fence than its first, so the first one's late write is refused."""
    app = flowq.App("books")
    fences: list[int] = []

    @app.task(backoff=flowq.Backoff(base=0))
    async def book(total: int) -> bool:
        fence = flowq.current_job().fence
        fences.append(fence)
        if len(fences) == 1:
            raise flowq.Retry(after=0)
        written: bool = recipes["store_total"](db, "a", total, fence)
        return written

    async with worker(app):
        assert await (await book.enqueue(5)).result(timeout=30)
    first, second = fences
    assert first < second
    assert not recipes["store_total"](db, "a", 99, first)
    assert db.execute("SELECT total FROM totals").fetchall() == [(5,)]


def _at_once(function: Callable[[int], None], fences: range) -> None:
    threads = [threading.Thread(target=function, args=(fence,)) for fence in fences]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
