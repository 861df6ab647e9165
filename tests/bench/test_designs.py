"""Each design of ``bench/designs`` has the property that the page tells of it, seen by the bodies of real worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.conditions import Conditions
from bench.designs import comparison, page, plots, scenarios
from bench.designs.candidates import DESIGNS
from bench.designs.crew import Crew, crew_of
from bench.server import running_server
from flowq.backends.redis.find_server import find_redis_server

BODY = 0.25
LISTS = ("sharded", "dispatched", "list-per-type", "shards-per-type")

pytestmark = pytest.mark.slow


@contextmanager
def crew_at_work(name: str, workers: int, slots: int, *, recovers: bool = True) -> Iterator[Crew]:
    """Workers that have run a job."""
    conditions = Conditions(server=find_redis_server())
    with (
        running_server(conditions) as server,
        crew_of(name, server, "trio", slots, recovers=recovers) as crew,
    ):
        crew.start_up_to(workers)
        scenarios.warm_up(crew)
        yield crew


def test_the_lock_at_the_head_runs_one_at_a_time_and_loses_none() -> None:
    """(0) A type with limit 3 runs one job at a time on two workers; the head stays until its body has ended, so a dead worker's is taken up."""
    with crew_at_work("head-lock", 2, 8) as crew:
        story = scenarios.story(crew, 0.1)
        kill = scenarios.kill(crew, 4, 2, BODY)

    assert (story.peak, story.lost) == (1, 0)
    assert kill.in_hand > 0
    assert kill.lost == 0


def test_pop_before_the_token_loses_what_gets_none() -> None:
    """(0') Jobs that were popped beyond the limit are gone, each with the message; what got a token has run."""
    with crew_at_work("pop-first", 1, 16) as crew:
        found = scenarios.story(crew, BODY)
        said = crew.said()

    assert 0 < found.lost < scenarios.STORY
    assert said.count("failed to acquire concurrency token") == found.lost
    assert found.peak <= 3


@pytest.mark.parametrize("name", LISTS)
def test_lists_with_leases_keep_the_limit_and_lose_none(name: str) -> None:
    """(1, 2, 4, 5) One script gives out jobs and counts; a lease beside the list brings back what a dead worker had, also the dispatcher's."""
    with crew_at_work(name, 2, 2) as crew:
        story = scenarios.story(crew, 0.1)
        kill = scenarios.kill(crew, 8, 4, BODY)

    assert story.peak <= 3
    assert kill.in_hand > 0
    assert (story.lost, kill.lost) == (0, 0)


def test_a_bare_list_loses_what_a_dead_worker_had() -> None:
    """(4) Without that lease a popped job is gone with its worker: exactly what it ran is lost."""
    with crew_at_work("list-per-type", 2, 2, recovers=False) as crew:
        found = scenarios.kill(crew, 8, 4, BODY)

    assert found.lost_in_hand == found.in_hand > 0


def test_one_stream_has_no_limit_and_loses_none() -> None:
    """(3) The group hands out the next entry, whatever its type is; pending entries of a dead worker are claimed by the others."""
    with crew_at_work("one-stream", 2, 4) as crew:
        story = scenarios.story(crew, BODY)
        kill = scenarios.kill(crew, 8, 4, BODY)

    assert story.peak > 3
    assert kill.in_hand > 0
    assert (story.lost, kill.lost) == (0, 0)


def test_flowq_runs_three_and_loses_none() -> None:
    """The same harness, the same jobs: three at once, none lost, also when a worker is killed."""
    with crew_at_work("flowq", 2, 4) as crew:
        story = scenarios.story(crew, BODY)
        kill = scenarios.kill(crew, 8, 4, BODY)

    assert (story.peak, story.lost) == (3, 0)
    assert kill.in_hand > 0
    assert kill.lost == 0
    assert kill.peak <= 3


@pytest.mark.timeout(240)
def test_everything_runs_and_is_written(tmp_path: Path) -> None:
    """``--quick``'s amount of everything, for two designs: page, data and, where matplotlib is, plots."""
    conditions = Conditions(server=find_redis_server(), backends=("trio",), quick=True)

    compared = comparison.compare(conditions, names=("head-lock", "flowq"))
    page.write(compared, tmp_path)

    at = compared.measured["flowq"].at[2]
    assert at.noops[0].attempts > 0
    assert (at.noops[0].lost, at.story.lost, compared.measured["flowq"].killed.lost) == (0, 0, 0)
    assert page.tables(page.read(tmp_path / "designs.json")) in (tmp_path / "designs.md").read_text()
    assert {figure.question for figure in page.figures(compared)} == {"designs"}
    drawn = sorted(path.name for path in tmp_path.glob("img/*.svg"))
    assert drawn == (["designs-by-workers.svg", "designs-costs.svg"] if plots.can_draw() else [])


def test_the_page_shows_its_data() -> None:
    """The tables in ``docs/designs.md`` are what ``docs/designs.json`` gives: nobody has edited them by hand."""
    folder = page.PROSE.parent

    compared = page.read(folder / "designs.json")

    assert page.tables(compared) in (folder / "designs.md").read_text()
    assert json.loads((folder / "designs.json").read_text())["measured"].keys() == DESIGNS.keys()
