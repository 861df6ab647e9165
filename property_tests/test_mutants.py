"""The test of the lease machine: every mutant of the shipped scripts is killed by its stored program, which the shipped pass.

``FLOWQ_SEARCH=1`` lets the machine find the programs anew (an hour); ``python -m property_tests.lease.search NAME`` stores one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lease.mutants import MUTANTS, NOT_EXPRESSIBLE
from .lease.search import all_servers, load_member, replay, search, stored, table
from .lease.server import Server, load_scripts

PAGE = Path(__file__).parents[1] / "docs" / "lease-machine.md"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    with all_servers() as found:
        yield found


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_killed(name: str, servers: list[Server]) -> None:
    """The stored program breaks the stored promise on the mutant, and none on what is shipped; on every server."""
    row = stored()[name]
    program = [tuple(op) for op in row["program"]]
    patches = MUTANTS[name].patches
    for server in servers:
        server.use(load_scripts(patches))
        violation = replay(server, program, load_member(patches))
        assert violation is not None, f"the mutant lives on {server.version}: search for a program anew"
        assert violation.promise == row["promise"]
        server.use(load_scripts())
        assert replay(server, program) is None


def test_no_program_is_left_over() -> None:
    """Each stored program belongs to a mutant."""
    assert set(stored()) == set(MUTANTS)


def test_every_row_of_the_check_has_its_mutant() -> None:
    """LEASE §1: each misreading W1–W17 and each gap I1–I11 is a mutant, or NOT_EXPRESSIBLE says why it is none."""
    named = " ".join([*(m.row for m in MUTANTS.values()), *NOT_EXPRESSIBLE])
    rows = set(re.findall(r"\b[WI]\d+\b", named))
    for letter, first, last in re.findall(r"([WI])(\d+)–[WI](\d+)", named):
        rows |= {f"{letter}{n}" for n in range(int(first), int(last) + 1)}
    assert rows == {f"W{n}" for n in range(1, 18)} | {f"I{n}" for n in range(1, 12)}


def test_page_says_what_is_not_expressible() -> None:
    """docs/lease-machine.md lists what has no mutant, with the reason."""
    page = PAGE.read_text()
    for row, reason in NOT_EXPRESSIBLE.items():
        assert f"- {row}: {reason}." in page


def test_page_shows_this_table() -> None:
    """docs/lease-machine.md says which promise catches which mutant, as it is stored."""
    assert table() in PAGE.read_text()


if "FLOWQ_SEARCH" in os.environ:

    @pytest.mark.timeout(0)
    @pytest.mark.parametrize("name", MUTANTS)
    def test_machine_finds_it(name: str, servers: list[Server]) -> None:
        """The machine itself, not only its memory, kills the mutant."""
        assert search(servers[:1], MUTANTS[name], 400) is not None
