"""Every design, measured at each number of workers: what ``python -m bench designs`` runs."""

from __future__ import annotations

import sys
import time
from typing import Any

import attrs

from bench import report
from bench.conditions import Conditions, load_average
from bench.designs import scenarios
from bench.designs.candidates import DESIGNS
from bench.designs.crew import Crew, crew_of
from bench.designs.scenarios import Kill, Noops, Story
from bench.server import running_server
from bench.wire import Tap, tapped


@attrs.frozen
class Effort:
    """How much is run."""

    workers: tuple[int, ...] = (1, 2, 4, 8)
    killed_of: int = 4
    """The number of workers of which one is killed."""
    slots: int = 16
    """Bodies that one worker runs at once."""
    slots_killed: int = 4
    """The same in the run with a kill, so that jobs wait when the worker dies."""
    runs: int = 3
    """Of the no-ops: their rate is the figure that most depends on the machine."""
    seconds: float = 0.5
    """Of one run of no-ops, about."""
    most: int = 40_000
    story_body: float = 0.25
    """Seconds of a body of the seed's story."""
    pings: int = 40
    gap: float = 0.010
    """Mean seconds between two single jobs."""
    beside: float = 0.1
    """Seconds of the limited bodies beside them."""
    free: int = 24
    limited: int = 12
    body: float = 0.3
    """Seconds of a body in the run with a kill, and how many there are."""


QUICK = Effort(
    workers=(2,), killed_of=2, slots=4, slots_killed=2, runs=1, seconds=0.05, most=300, story_body=0.1, pings=5, free=6, limited=4,
    body=0.15,
)  # fmt: skip


@attrs.frozen
class AtSize:
    """One design at one number of workers."""

    noops: list[Noops]
    story: Story
    alone_ms: list[float]
    """Latency of single jobs with nothing beside them."""
    beside_ms: list[float]
    """The same beside a saturated limited type."""


@attrs.frozen
class Measured:
    """One design."""

    at: dict[int, AtSize]
    killed: Kill
    bare: Kill | None = None
    """The same without the recovery that was added to a structure that has none."""


@attrs.frozen
class Comparison:
    """What the page shows."""

    facts: dict[str, Any]
    effort: Effort
    measured: dict[str, Measured]


def compare(conditions: Conditions, *, names: tuple[str, ...] = tuple(DESIGNS)) -> Comparison:
    """Measure; prints a line for each design as it goes."""
    effort = QUICK if conditions.quick else Effort(runs=conditions.runs)
    facts = {**report.machine(conditions), "loop": conditions.backends[0]}
    measured = {}
    for name in names:
        began = time.monotonic()
        measured[name] = measure(name, conditions, effort)
        print(f"designs: {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    facts["load_after"] = load_average()
    return Comparison(facts, effort, measured)


def measure(name: str, conditions: Conditions, effort: Effort) -> Measured:
    """One design, each part on a server of its own."""
    loop = conditions.backends[0]
    sizes = {}
    with running_server(conditions) as server, crew_of(name, server, loop, effort.slots) as crew:
        for workers in effort.workers:
            crew.start_up_to(workers)
            scenarios.warm_up(crew)
            sizes[workers] = _at_size(crew, effort)
    if name == "flowq":
        sizes = _with_attempts(sizes, conditions, effort)
    return Measured(
        sizes,
        killed=killed(name, conditions, effort),
        bare=killed(name, conditions, effort, recovers=False) if DESIGNS[name].has_bare_form else None,
    )


def killed(name: str, conditions: Conditions, effort: Effort, *, recovers: bool = True) -> Kill:
    """One design loses a worker."""
    with (
        running_server(conditions) as server,
        crew_of(name, server, conditions.backends[0], effort.slots_killed, recovers=recovers) as crew,
    ):
        crew.start_up_to(effort.killed_of)
        scenarios.warm_up(crew)
        return scenarios.kill(crew, effort.free, effort.limited, effort.body)


def _at_size(crew: Crew, effort: Effort) -> AtSize:
    pilot = scenarios.noops(crew, min(scenarios.PILOT, effort.most))
    count = int(min(effort.most, max(scenarios.PILOT, pilot.per_second * effort.seconds)))
    return AtSize(
        noops=[scenarios.noops(crew, count) for _ in range(effort.runs)],
        story=scenarios.story(crew, effort.story_body),
        alone_ms=scenarios.pings(crew, effort.pings, effort.gap),
        beside_ms=scenarios.pings_beside(crew, effort.pings, effort.gap, effort.beside),
    )


def _with_attempts(sizes: dict[int, AtSize], conditions: Conditions, effort: Effort) -> dict[int, AtSize]:
    """flowq's attempts are counted by proxies, in runs of their own: nothing is timed through those."""
    counted = {}
    with running_server(conditions) as server, tapped(server.socket) as wire:
        taps = [wire.tap() for _ in range(max(sizes))]
        urls = [tap.url for tap in taps]
        with crew_of("flowq", server, conditions.backends[0], effort.slots, urls=urls) as crew:
            for workers, found in sizes.items():
                crew.start_up_to(workers)
                scenarios.warm_up(crew)
                began = time.monotonic()
                count = min(2000, effort.most)
                scenarios.noops(crew, count)
                attempts, empty = _claims(taps, began, crew.log.last)
                noops = [
                    attrs.evolve(one, attempts=attempts / count, empty=empty / count) for one in found.noops
                ]
                began = time.monotonic()
                scenarios.story(crew, effort.story_body)
                attempts, empty = _claims(taps, began, crew.log.last)
                story = attrs.evolve(
                    found.story, attempts=attempts / scenarios.STORY, empty=empty / scenarios.STORY
                )
                counted[workers] = attrs.evolve(found, noops=noops, story=story)
    return counted


def _claims(taps: list[Tap], since: float, until: float) -> tuple[int, int]:
    """Claims with room, and those of them that got nothing."""
    asked = 0
    for tap in taps:
        with tap.lock:
            asked += sum(since <= claim.at <= until and claim.room > 0 for claim in tap.claims)
    return asked, sum(tap.futile(since, until) for tap in taps)
