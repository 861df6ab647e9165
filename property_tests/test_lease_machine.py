"""The lease machine over the shipped Lua, on every redis-server that is here (see docs/lease-machine.md).

``FLOWQ_EXAMPLES`` scales it, ``--profile=nightly`` looks for a night. A violation is shortened and printed as a program that
``lease.search.replay`` runs.
"""

from __future__ import annotations

import pprint
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from property_tests import report
from property_tests.conftest import Part

from .lease import member
from .lease.ledger import Violation
from .lease.machine import LeaseMachine
from .lease.search import replay, shorten
from .lease.server import BuildError, Patch, Server, binaries, load_scripts, running

VERSIONS = sorted(binaries(), key=float)

FLOORS = {
    # per example; CORRECTIONS 4.8 asks for 30 steps, 0.5 bodies, 0.1 expiries and adoptions, 0.05 FENCED and server losses
    "steps": 40,
    "bodies": 8,
    "settled": 4,
    "EPOCH": 3.5,
    "adopted": 1.8,
    "server losses": 0.8,
    "confirms": 0.8,
    "kept": 0.6,
    "LOST": 0.5,
    "expired": 0.4,
    "late": 0.35,
    "limbo executed": 0.35,
    "GONE": 0.3,
    "retried": 0.3,
    "handed back": 0.25,
    "mine handed back": 0.2,
    "dead letters": 0.1,
    "resumed": 0.08,
    "clock steps": 0.07,
    "cancel removed": 0.07,
    "FENCED": 0.06,
    "cancel requested": 0.04,
    "left": 0.04,
    "STALE": 0.02,
    "TTL change open": 0.04,
}
"""A run below these found its promises kept by not trying: it is red. At most a fifth of the least that 18 runs showed, of 33 and of 100
examples, with seeds of their own: chance alone does not get there."""
FEW = 5
"""A floor that asks for fewer than these in the whole run is left to longer runs."""


FAULTS = (
    *("crashes", "server losses", "clock steps", "resumed", "late", "limbo"),
    *("lost_request", "lost_reply", "lost_between"),
)


def look(server: Server, examples: int, chosen: int | None = None) -> Counter[str]:
    """Run the machine; what happened in all examples together. A violation fails the test with its shortest program.

    ``chosen``: the seed of its examples; None: Hypothesis chooses.
    """
    server.use(load_scripts())
    LeaseMachine.server, LeaseMachine.members = server, member
    LeaseMachine.totals.clear()
    LeaseMachine.failed.clear()
    how = settings(
        max_examples=examples,
        stateful_step_count=40,
        phases=(Phase.generate,),  # programs are shortened by `shorten`, which knows what an operation is
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run = get_state_machine_test(LeaseMachine, settings=how)
    try:
        (run if chosen is None else seed(chosen)(run))()
    except Violation as violation:
        _, program = LeaseMachine.failed[-1]
        if replay(server, program) is None:
            raise  # it depends on the order of a Redis set: the log above is all there is
        program, found = shorten([server], program, member)
        first = f"first seen as {violation}, with seed {chosen}"
        pytest.fail(f"{found}\n{first}\nprogram = {pprint.pformat(program)}", pytrace=False)
    return Counter(LeaseMachine.totals)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("version", VERSIONS)
def test_no_promise_breaks(version: str, part_of_machine: Part, record_property: report.Record) -> None:
    """No program of work, time and faults breaks a promise, on any server; and the programs did try."""
    examples, began = part_of_machine.examples, time.monotonic()
    if version != VERSIONS[-1]:
        examples = max(1, examples // 3)
    with running(binaries()[version]) as server:
        totals = look(server, examples, part_of_machine.seed)
        totals["redis commands"] = server.commands()
    totals["faults"] = sum(totals[fault] for fault in FAULTS)
    report.tell(record_property, f"lease machine on redis {version}", time.monotonic() - began, totals)
    assert examples <= totals["examples"]
    scarce = {
        what: (totals[what], floor * examples)
        for what, floor in FLOORS.items()
        if totals[what] < floor * examples >= FEW
    }
    assert not scarce, f"the generator has gone blind (seen, wanted): {scarce}"


def test_both_generations_of_servers_are_here() -> None:
    """The machine runs on a server that knows `#!lua` and on one that does not: the scripts differ there."""
    assert {float(v) < 7 for v in VERSIONS} == {True, False}


def test_a_patch_that_does_not_fit_fails_the_build() -> None:
    """Seams and mutants are textual: text that has changed must be noticed, not skipped."""
    with pytest.raises(BuildError, match="occurs 0 times"):
        load_scripts([Patch("claim.lua", "this text is not there", "")])
