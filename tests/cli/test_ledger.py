"""A migration's ledger survives the crash of who writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowq import ConfigurationError
from flowq.cli.ledger import Ledger, Line, read


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """It is ended before the next one is written, and passed over by who reads."""
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as book:
        book.add([Line(1.0, "a", "ready", "resize:1-0", "resize")])
    path.write_bytes(path.read_bytes() + b'{"at":2.0,"id":"b","wh')
    with Ledger(path) as book:
        book.add([Line(3.0, "c", "audit", "there is no hash")])
    assert [line.id for line in read(path)] == ["a", "c"]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Before anything moves."""
    with pytest.raises(ConfigurationError, match=r"cannot be written: .*name another file with --ledger"):
        Ledger(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read(tmp_path / "none"))
