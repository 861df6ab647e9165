"""Whole workers under a virtual clock, behind bad lines: no plan of work and faults breaks a promise (docs/simulation.md).

``FLOWQ_EXAMPLES`` scales it, ``--profile=nightly`` looks for a night. A failure prints the plan, which is the run, and the command that replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from property_tests import report as reports
from property_tests.conftest import Part

from .simulation.history import (
    CallFailed,
    ClockStepped,
    Crashed,
    CutOff,
    Finished,
    Frozen,
    ServerLost,
    Started,
)
from .simulation.lives import TOURS, kills, plan_of
from .simulation.mutants import MUTANTS, expose
from .simulation.plan import Crash, Cut, Drain, Freeze, Plan, Server, Stall, Start, Submit
from .simulation.points import all_points, unreached
from .simulation.run import Run, judge, simulate
from .simulation.strategies import plans

FLOORS = {
    # of every example; CORRECTIONS 4.8 asks for 30 steps, 0.5 bodies, 0.1 expiries and adoptions, 0.05 FENCED and server losses
    "steps": 200,
    "turns": 30,
    "bodies": 5,
    "expiries": 0.1,
    "adoptions after a crash": 0.1,
    "server losses": 0.1,
    "freezes": 0.1,
    "outcomes": 5,
    "FENCED": 0.05,
}
"""A run below these kept its promises by not trying: it is red. Each is half of what is seen, or less."""
ENOUGH = 8
"""Events that a floor must ask for before it counts: fewer are missed by bad luck."""


FAULTS = (CallFailed, Crashed, CutOff, ClockStepped, Frozen, ServerLost)


def report(violations: object, plan: Plan) -> str:
    """What a failure says."""
    return f"{violations}\nseed {plan.seed}; to replay it:\n  {plan.command} --history"


def count(run: Run, totals: Counter[str]) -> None:
    """Add what happened in a run."""
    totals.update({str(name): number for name, number in run.counts.items()})
    events = run.history.events
    totals["examples"] += 1
    totals["bodies"] += sum(isinstance(event, Started) for event in events)
    totals["outcomes"] += sum(type(event).__name__ == "Outcome" for event in events)
    totals["freezes"] += sum(isinstance(event, Frozen) for event in events)
    totals["server losses"] += sum(isinstance(event, ServerLost) for event in events)
    totals["faults"] += sum(isinstance(event, FAULTS) for event in events)
    totals["virtual seconds"] += round(run.virtual)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_promise_breaks(part_of_simulation: Part, record_property: reports.Record) -> None:
    """Whatever befalls workers, lines and the server, in whatever order tasks run, each promise is kept; and the plans did try."""
    totals: Counter[str] = Counter()
    reached: set[tuple[str, int]] = set()
    began = time.monotonic()

    @settings(
        max_examples=part_of_simulation.examples,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(plans())
    def look(plan: Plan) -> None:
        run = simulate(plan)
        count(run, totals)
        reached.update(run.gate.reached)
        violations = judge(run)
        assert not violations, report(violations[0], plan)

    (look if part_of_simulation.seed is None else seed(part_of_simulation.seed)(look))()
    places = [f"{file}:{line}" for file, line in reached & all_points().keys()]
    check = f"simulation (places: of {len(all_points())} await points of the runtime)"
    reports.tell(record_property, check, time.monotonic() - began, totals, places)
    examples = totals["examples"]
    scarce = {
        what: (totals[what], floor * examples)
        for what, floor in FLOORS.items()
        if totals[what] < floor * examples and floor * examples >= ENOUGH
    }
    assert not scarce, f"the plans have gone blind (seen, wanted): {scarce}"


LEAST_REACHED = 0.6
"""Of all await points of the runtime: a run below this has lost its way. docs/simulation.md says what cannot be reached."""


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_worker_may_be_killed_at_every_await(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed at the first and at the last time that it waits at each await point of the runtime, a worker leaves nothing undone.

    Prints how many points were reached, and which were not.
    """
    doomed, visited = kills()
    killed: set[tuple[str, int]] = set()
    for plan, points in doomed:
        run = simulate(plan)
        violations = judge(run)
        assert not violations, report(violations[0], plan)
        assert run.history.crashed, report("nobody was killed", plan)
        killed |= points
    with capsys.disabled():
        sys.stdout.write(
            f"\nkilled at {len(killed)} of {len(all_points())} await points of flowq/_runtime, in {len(doomed)} runs; no tour waits at\n"
        )
        for (file, line), text in sorted(unreached(visited).items()):
            sys.stdout.write(f"    flowq/{file}:{line}  {text}\n")
    assert killed == visited
    assert len(killed & all_points().keys()) >= LEAST_REACHED * len(all_points())


@pytest.mark.parametrize("tour", TOURS)
def test_tour_keeps_its_promises(tour: str) -> None:
    """The tours themselves, under other schedules than the one that is killed."""
    for schedule in range(3):
        plan = msgspec.structs.replace(plan_of(tour), seed=schedule)
        violations = judge(simulate(plan))
        assert not violations, report(violations[0], plan)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_seen(name: str) -> None:
    """A variant with one wrong rule breaks the promise that it must, and what is shipped breaks none in that situation."""
    found = expose(MUTANTS[name])
    assert found is not None, f"{name} lives: the checker, or its situation, has gone blind"
    plan, _ = found
    violations = judge(simulate(plan))
    assert not violations, report(violations[0], plan)


BUSY = Plan(
    seed=11,
    workers=2,
    ttl=4.0,
    ops=[
        Submit(0.2, "free", 6, 2.0, "fail"),
        Submit(0.0, "pair", 6, 1.0, "child"),
        Start(0.3, 2),
        Freeze(0.5, 1, 6.0),
        Server(0.3, "backup"),
        Cut(1.0, 0, 3.0),
        Submit(0.0, "sync", 3, 0.0),
        Server(1.0, "restore"),
        Drain(1.0, 1, 0.1),
        Crash(0.1, 2, 30),
    ],
    rest=3.0,
)


def test_a_plan_is_one_run() -> None:
    """The same plan is the same run, step by step, in other processes with other hash seeds; another seed is another schedule."""

    def steps(plan: Plan, hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "property_tests.simulation", plan.encode(), "--steps", "--history"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = steps(BUSY, "1")
    assert first.count("\n") > 500
    assert steps(BUSY, "2") == first
    other = msgspec.structs.replace(BUSY, seed=12)
    assert steps(other, "1") != first


def test_a_frozen_worker_takes_no_step() -> None:
    """While a worker is frozen time passes and none of its tasks runs: nothing of it begins or ends before it is thawed."""
    plan = Plan(seed=3, workers=1, ttl=4.0, ops=[Submit(0.2, "free", 2, 1.0), Freeze(0.5, 0, 9.0)], rest=10.0)
    run = simulate(plan)
    ends = [event.at for event in run.history.events if type(event).__name__ == "Ended"]
    assert ends
    assert all(at >= 0.7 + 9.0 for at in ends)
    assert isinstance(run.history.events[-1], Finished)
    assert not judge(run)


def test_a_stalled_loop_is_renewed_for() -> None:
    """While only its keeper runs, as when a body blocks the loop, a worker stays a member: its limited bodies are nobody else's."""
    ops = [Submit(0.2, "pair", 2, 1.0), Start(0.1, 1), Stall(0.2, 0, 7.0)]
    stalled = Plan(seed=3, workers=1, ttl=4.0, ops=ops, rest=10.0)
    run = simulate(stalled)
    starts = [event.worker for event in run.history.events if isinstance(event, Started)]
    assert starts == ["w0.1", "w0.1"]
    assert not judge(run)
