"""Tokens, deadlines, batches: the rules of one line."""

from __future__ import annotations

import math

import attrs
import pytest

from flowq._core.batch import MOST_BYTES, MOST_OUTCOMES, how_many, weight
from flowq._core.deadlines import NEVER, earliest, expired
from flowq._core.limit import is_excess, tokens
from flowq._model import Again, Cancelled, Dead, Delivery, Ended, Outcome, Released, Succeeded


@pytest.mark.parametrize(("outstanding", "limit", "expected"), [(0, 3, 0), (2, 3, 2), (5, 3, 3), (5, 0, 0)])
def test_tokens_follow_what_was_granted_up_to_the_limit(outstanding: int, limit: int, expected: int) -> None:
    """A lowered limit takes effect on what starts next, whatever is outstanding."""
    assert tokens(outstanding, limit) == expected


def test_a_grant_above_the_limit_is_excess() -> None:
    """Also one above a limit of zero."""
    assert [is_excess(held, 2) for held in (0, 1, 2, 3)] == [False, False, True, True]
    assert is_excess(0, 0)


@attrs.define
class Row:
    deadline: float


def test_the_table_of_deadlines_tells_the_next_and_the_late() -> None:
    """One sleeper for all bodies; a row without a deadline never ends."""
    rows = [Row(5.0), Row(NEVER), Row(3.0)]
    assert earliest(rows) == 3.0
    assert expired(rows, 4.0) == [rows[2]]
    assert expired(rows, 5.0) == [rows[0], rows[2]]
    assert earliest([]) == math.inf


def end(outcome: Outcome) -> Ended:
    return Ended(Delivery("l", "1-1", 1, "e", 1, 0, b""), outcome, "l:1-1")


def test_a_settle_carries_so_many_outcomes_and_so_many_bytes() -> None:
    """At least one, however large; never more than the script may do in one go."""
    small, large = end(Succeeded(None, 0)), end(Succeeded(b"x" * (MOST_BYTES // 3), 0))
    assert how_many([]) == 0
    assert how_many([small] * 1000) == MOST_OUTCOMES
    assert how_many([large] * 10) == 3
    assert how_many([small, end(Succeeded(b"x" * (2 * MOST_BYTES), 0)), small]) == 1
    assert how_many([end(Succeeded(b"x" * (2 * MOST_BYTES), 0)), small]) == 1


def test_what_an_outcome_weighs() -> None:
    """The bytes that it brings along."""
    assert [
        weight(outcome)
        for outcome in (
            Succeeded(b"abc", 1),
            Again(b"abcd", 1, "error"),
            Dead("error", "r", b"ab", 1, b"cde"),
            Cancelled(b"a", 1),
            Released(),
        )
    ] == [3, 4, 5, 1, 0]
