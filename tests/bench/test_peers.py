"""The contest of ``bench/peers``: adapters that say what they are, fair turns, counts that are right, and a page that says who is ahead."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import redis

from bench.conditions import Conditions, Gone
from bench.peers import contest, page
from bench.peers.contest import Contest, Plan
from bench.peers.peer import peers
from bench.peers.samples import Measure, Row
from bench.peers.toll import tolled
from bench.peers.workloads import Sample
from bench.server import running_server
from flowq.backends.redis.find_server import find_redis_server

PLAN = Plan(1, 0.4, 200, 15.0, anchor_rounds=1, quick=True)
RATE = Measure("a", "no-op jobs", "jobs/s")


def report(*rows: Row, at: str = "now") -> dict[str, Any]:
    machine = {
        "at": at, "cpu": "c", "cpus": 2, "redis": "8", "system": "s", "persistence": "none", "load_before": 0.0,
    }  # fmt: skip
    whole: dict[str, Any] = {
        "machine": machine, "took_s": 60.0, "quick": False, "plan": {"rounds": 1, "seconds": 1.0}, "references": contest.REFERENCES,
        "loads": [0.5], "missing": {}, "failures": [], "swept": {}, "peers": {}, "rows": page.rows_to_json(rows),
    }  # fmt: skip
    return {**whole, "parts": [page.part(whole, "a")]}


def test_every_adapter_says_what_it_is() -> None:
    """Fourteen peers and flowq, each with the pages that its settings come from."""
    found = peers()

    assert next(iter(found)) == "flowq"
    assert len(found) == 15
    for peer in found.values():
        assert peer.docs, peer.name
        assert peer.settings[0], peer.name
        assert peer.here or peer.dependencies, peer.name


def test_each_plays_beside_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """R x y R z: whoever plays is right before or right after flowq, and is paired with that turn of it."""
    order: list[str] = []

    def turn(self: Contest, workload: str, play: Any, who: Any) -> list[Sample]:
        order.append(who.name)
        sample = Sample(RATE, float(len(order)))
        self.rows.setdefault((RATE, who.name), Row(RATE, who.name, who.peer.here))
        return [sample]

    monkeypatch.setattr(Contest, "_turn", turn)
    known = peers()
    players = [
        known["flowq"].contestants[0],
        *(known[name].contestants[0] for name in ("arq", "saq", "mayu")),
    ]
    whole = Contest(None, players, PLAN, None)  # type: ignore[arg-type]  # nothing is played

    whole._round("a", lambda _: [], players)

    reference = contest.REFERENCES["a"]
    assert [name.split(" ")[0] for name in order] == ["flowq", "arq", "saq", "flowq", "mayu"]
    pairs = {who: row.pairs for (_, who), row in whole.rows.items() if who != reference}
    assert list(pairs.values()) == [[(1.0, 2.0)], [(4.0, 3.0)], [(4.0, 5.0)]]


def test_parts_of_a_run_become_one() -> None:
    """flowq's samples are put together, each peer keeps its own pairs; a peer that is in two parts is refused."""
    one = report(
        Row(RATE, "flowq trio", True, [10.0]), Row(RATE, "arq", False, [1.0], [(10.0, 1.0)]), at="one"
    )
    two = report(
        Row(RATE, "flowq trio", True, [12.0]), Row(RATE, "saq", False, [2.0], [(12.0, 2.0)]), at="two"
    )

    whole = page.together([one, two])

    rows = {row["contestant"]: row for row in whole["rows"]}
    assert rows["flowq trio"]["samples"] == [10.0, 12.0]
    assert (rows["arq"]["flowq_is_times"], rows["saq"]["flowq_is_times"]) == (10.0, 6.0)
    assert [part["machine"]["at"] for part in whole["parts"]] == ["one", "two"]
    with pytest.raises(ValueError, match="arq in the same workload a"):
        page.together([one, one])


def test_runs_of_two_machines_are_no_one_run() -> None:
    """Their figures say nothing beside each other."""
    other = report(Row(RATE, "saq", False, [2.0]))
    other["machine"]["cpu"] = "another"

    with pytest.raises(ValueError, match="different machines"):
        page.together([report(Row(RATE, "arq", False, [1.0])), other])


def test_the_page_says_where_flowq_is_behind() -> None:
    """Whoever has a better median than the best of flowq's rows is named with it; nobody is named where flowq leads."""
    ahead = page.tables(report(Row(RATE, "flowq trio", True, [10.0]), Row(RATE, "fast", False, [20.0])))
    behind = page.tables(report(Row(RATE, "flowq trio", True, [10.0]), Row(RATE, "slow", False, [2.0])))

    assert "- no-op jobs, jobs/s: flowq trio 10, behind fast 20" in ahead
    assert "Nowhere in these tables." in behind


def test_the_toll_counts_requests_and_bytes() -> None:
    """As they are on the wire: a pipeline of five is five, a large value counts with its length, and answers come back whole."""
    with (
        running_server(Conditions(server=find_redis_server()), tcp=True) as server,
        tolled(server.port) as toll,
        redis.Redis(port=toll.port, protocol=2) as client,
    ):
        client.ping()
        requests, sent, received = toll.requests, toll.sent, toll.received
        client.set("key", "x" * 10_000)
        pipeline = client.pipeline(transaction=False)
        for _ in range(5):
            pipeline.get("key")
        answers = pipeline.execute()

    assert answers == [b"x" * 10_000] * 5
    assert toll.requests - requests == 6
    assert 10_000 < toll.sent - sent < 10_400
    assert 50_000 < toll.received - received < 50_400


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("workload", list(contest.REFERENCES))
def test_flowq_plays_every_workload(workload: str) -> None:
    """Real worker processes, with tiny numbers: each workload gives figures, and no turn fails."""
    conditions = Conditions(server=find_redis_server())
    rows = [who for who in peers()["flowq"].contestants if who.name in ("flowq trio", "flowq trio limit=50")]
    another = partial(running_server, conditions, tcp=True)
    plan = Plan(1, 0.4, 200, 15.0, processes=(1,), anchor_rounds=1, quick=True)

    with another() as server:
        whole = Contest(server, rows, plan, another)
        whole.sweep({})
        whole.play(workload)

    assert whole.failures == []
    assert {measure.workload for measure, _ in whole.rows} == {workload}
    assert all(row.median > 0 for row in whole.rows.values())


def test_a_failed_turn_leaves_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that fails twice is left out of the later rounds; flowq's turns go on."""
    turns: list[str] = []

    def stage(who: Any, settings: Any, server: Any) -> Any:
        turns.append(who.name)
        raise Gone("it is broken")

    monkeypatch.setattr(contest, "stage_of", stage)
    who = peers()["arq"].contestants[0]
    whole = Contest(None, [who], attrs.evolve(PLAN, rounds=5), None)  # type: ignore[arg-type]  # nothing is played
    whole.rates[who.name], whole.settings[who.name] = 1.0, {}

    whole.play("d")

    assert turns == [who.name] * 4
    assert len(whole.failures) == 4
    assert whole.rows == {}
