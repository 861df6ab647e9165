"""Who plays when: a sweep that finds each one's best settings, then rounds in which flowq and the peers play in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import attrs

from bench.conditions import Gone, load_average
from bench.peers import workloads
from bench.peers.costs import costs
from bench.peers.peer import Contestant
from bench.peers.samples import Measure, Row
from bench.peers.stage import Stage, stage_of
from bench.peers.workloads import Sample
from bench.server import Server

REFERENCES = {"a": "flowq trio limit=50", **dict.fromkeys("bcdefg", "flowq trio")}
"""Whom each contestant of a workload is compared with."""
TRIES = 2
"""How often a contestant may fail in a workload before the rounds go on without it."""
WAITS = ((100, 0.050), (1000, 0.050), (100, 0.005))
"""(c): (bodies at once, seconds of each)"""
LIMITS = ((3, 8, 0.050), (1, 3, 0.010))
"""(e): (limit, workers, seconds of a body)"""
STAGGER = 2.0
"""(g): seconds between the starts of the contestants, which then wait at the same time."""

Play = Callable[[Stage], list[Sample]]


@attrs.frozen
class Plan:
    """How long, and how often."""

    rounds: int
    seconds: float
    """Of one measurement, about."""
    sweep_jobs: int
    patience: float
    """Seconds in which a killed worker's jobs have to start elsewhere."""
    processes: tuple[int, ...] = (1, 2)
    anchors: tuple[str, ...] = ("cauli",)
    """Peers that play more rounds of (a) with one process, so that their ratio has an interval."""
    anchor_rounds: int = 7
    quick: bool = False


@attrs.define
class Contest:
    """A run, and what has come out of it so far."""

    server: Server
    contestants: Sequence[Contestant]
    plan: Plan
    another: Callable[[], AbstractContextManager[Server]]
    """One more server, for those who play at the same time."""
    rows: dict[tuple[Measure, str], Row] = attrs.field(factory=dict)
    failures: list[dict[str, str]] = attrs.field(factory=list)
    loads: list[float] = attrs.field(factory=list)
    settings: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    swept: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    rates: dict[str, float] = attrs.field(factory=dict)

    def sweep(self, known: Mapping[str, list[dict[str, Any]]]) -> None:
        """Find each contestant's best settings by its no-op rate, unless an earlier run has tried them."""
        for contestant in self.contestants:
            name = contestant.name
            tried = known.get(name) or list(self._tried(contestant))
            self.swept[name] = tried
            for one in tried:
                if one["jobs/s"] > self.rates.get(name, 0.0):
                    self.rates[name], self.settings[name] = one["jobs/s"], one["settings"]
            if name in self.rates:
                self._say(f"sweep: {name}: {self.rates[name]:,.0f}/s with {self.settings[name]}")

    def _tried(self, contestant: Contestant) -> Iterator[dict[str, Any]]:
        for settings in contestant.peer.settings:
            try:
                yield {"settings": settings, "jobs/s": self._rate(contestant, settings)}
            except Gone as gone:
                self._failed("sweep", contestant, f"{settings}: {gone}")

    def _rate(self, contestant: Contestant, settings: dict[str, Any]) -> float:
        jobs = self.plan.sweep_jobs
        with stage_of(contestant, settings, self.server) as stage:
            rate = workloads.noops(stage, 1, jobs).value
        if jobs / rate < self.plan.seconds / 4:
            with stage_of(contestant, settings, self.server) as stage:
                rate = workloads.noops(stage, 1, self._jobs(rate, self.plan.seconds / 3)).value
        return rate

    def _jobs(self, rate: float, seconds: float) -> int:
        return max(self.plan.sweep_jobs, int(rate * seconds))

    def play(self, workload: str) -> None:
        """All rounds of one workload."""
        if workload == "a":
            for processes in self.plan.processes:
                players = self._players("a") if processes == 1 else self._lone("a")
                self._rounds(workload, partial(self._noops, processes), players, anchored=processes == 1)
        elif workload == "f":
            self._round("f", partial(costs, quick=self.plan.quick), self._lone("f"))
        elif workload == "g":
            self._recoveries()
        else:
            for play in self._plays(workload):
                self._rounds(workload, play, self._lone(workload))

    def _players(self, workload: str) -> list[Contestant]:
        return [
            who
            for who in self.contestants
            if (not who.only or workload in who.only)
            and who.name in self.settings
            and (workload != "c" or who.peer.wide is not None)
            and (workload != "e" or who.peer.limits)
        ]

    def _lone(self, workload: str) -> list[Contestant]:
        """The fastest row of each peer, and flowq's rows: both loops where it is no matter of minutes, else the reference."""
        players = self._players(workload)
        best: dict[str, Contestant] = {}
        for who in players:
            rival = best.get(who.peer.name)
            if rival is None or self.rates.get(who.name, 0) > self.rates.get(rival.name, 0):
                best[who.peer.name] = who
        best.pop("flowq", None)
        ours = ("flowq trio", "flowq asyncio") if workload in "bd" else ("flowq trio",)
        wanted = {*ours, REFERENCES[workload], *(who.name for who in best.values())}
        return [who for who in players if who.name in wanted]

    def _rounds(
        self, workload: str, play: Play, players: list[Contestant], *, anchored: bool = False
    ) -> None:
        failed: dict[str, int] = {}
        anchors = [who for who in players if who.peer.name in self.plan.anchors] if anchored else []
        for number in range(max(self.plan.rounds, self.plan.anchor_rounds if anchors else 0)):
            here = (
                players
                if number < self.plan.rounds
                else [*anchors, *(who for who in players if who.name == REFERENCES[workload])]
            )
            fit = [who for who in here if failed.get(who.name, 0) < TRIES]
            for who in self._round(workload, play, fit if number % 2 == 0 else fit[::-1]):
                failed[who.name] = failed.get(who.name, 0) + 1

    def _plays(self, workload: str) -> Iterator[Play]:
        seconds = self.plan.seconds
        if workload == "b":
            for way in workloads.WAYS:
                yield partial(_alone, workloads.stored, way=way, seconds=seconds)
        elif workload == "c":
            for width, body in WAITS:
                yield partial(self._waits, width, body)
        elif workload == "d":
            yield partial(workloads.latencies, rate=0.0, seconds=seconds)
            yield lambda stage: workloads.latencies(stage, self.rates[stage.contestant.name] / 2, seconds)
        else:
            for limit, workers, body in LIMITS:
                yield partial(self._limited, limit, workers, body)

    def _noops(self, processes: int, stage: Stage) -> list[Sample]:
        jobs = self._jobs(self.rates[stage.contestant.name], processes * self.plan.seconds)
        return [workloads.noops(stage, processes, jobs)]

    def _waits(self, width: int, body: float, stage: Stage) -> list[Sample]:
        assert stage.contestant.peer.wide is not None
        by, also = stage.contestant.peer.wide
        stage.settings = {**stage.settings, **also, by: width}
        rate = self.rates[stage.contestant.name]
        return [workloads.waited(stage, width, body, self.plan.seconds, rate)]

    def _limited(self, limit: int, workers: int, body: float, stage: Stage) -> list[Sample]:
        stage.settings = {**stage.settings, "limit": limit}
        return [workloads.limited(stage, limit, workers, body, 2 * self.plan.seconds)]

    def _round(self, workload: str, play: Play, players: Sequence[Contestant]) -> list[Contestant]:
        """One turn of each; those that failed.

        In (a) each contestant has the reference right before or right after it: R x y R z …, in the next round the other way about.
        Elsewhere the reference plays once a round, before them.
        """
        reference = next((who for who in players if who.name == REFERENCES[workload]), None)
        others = [who for who in players if who is not reference]
        ours = None if reference is None else self._turn(workload, play, reference)
        failed = []
        for at, who in enumerate(others):
            theirs = self._turn(workload, play, who)
            if workload == "a" and at % 2 == 1 and reference is not None:
                ours = self._turn(workload, play, reference)
            if theirs is None:
                failed.append(who)
            self._pair(who, ours, theirs)
        return failed

    def _pair(self, who: Contestant, ours: list[Sample] | None, theirs: list[Sample] | None) -> None:
        for mine, its in zip(ours or [], theirs or [], strict=False):
            self.rows[its.measure, who.name].pairs.append((mine.value, its.value))

    def _recoveries(self) -> None:
        """By the documented settings: flowq alone, then all peers at the same time, as they do little but wait."""
        play: Play = partial(_alone, workloads.recovered, patience=self.plan.patience)
        swept = self.settings
        self.settings = {who.name: who.peer.settings[0] for who in self.contestants}
        players = self._lone("g")
        reference = next((who for who in players if who.name == REFERENCES["g"]), None)
        others = [who for who in players if who is not reference]
        for _ in range(self.plan.rounds):
            ours = None if reference is None else self._turn("g", play, reference)
            self._at_once("g", play, others, ours)
        self.settings = swept

    def _at_once(
        self, workload: str, play: Play, players: Sequence[Contestant], ours: list[Sample] | None
    ) -> None:
        """Each on a server of its own, one after the other started."""

        def turn(at: int, who: Contestant) -> list[Sample] | None:
            time.sleep(at * STAGGER)
            with self.another() as server:
                return self._turn(workload, play, who, server)

        with ThreadPoolExecutor(max(1, len(players))) as pool:
            for who, theirs in zip(players, pool.map(turn, range(len(players)), players), strict=True):
                self._pair(who, ours, theirs)

    def _turn(
        self, workload: str, play: Play, who: Contestant, server: Server | None = None
    ) -> list[Sample] | None:
        """Play, and keep what came out."""
        self.loads.append(load_average())
        began = time.monotonic()
        try:
            with stage_of(who, self.settings[who.name], server or self.server) as stage:
                samples = play(stage)
                settings, remarks = stage.settings, stage.remarks
        except Gone as gone:
            self._failed(workload, who, str(gone))
            return None
        for sample in samples:
            row = self.rows.setdefault(
                (sample.measure, who.name),
                Row(sample.measure, who.name, who.peer.here, settings=settings),
            )
            row.samples.append(sample.value)
            row.note = "; ".join(filter(None, [sample.note, *remarks])) or row.note
            for name, value in sample.facts.items():
                row.facts.setdefault(name, []).append(value)
        shown = ", ".join(
            f"{sample.measure.name}: {sample.value:,.4g} {sample.measure.unit}" for sample in samples
        )
        self._say(f"{workload}: {who.name}: {shown} [{time.monotonic() - began:.1f} s]")
        return samples

    def _failed(self, workload: str, who: Contestant, reason: str) -> None:
        self.failures.append({"workload": workload, "contestant": who.name, "reason": reason})
        self._say(f"{workload}: {who.name} FAILED: {reason}")

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _alone(play: Callable[..., Sample], stage: Stage, **how: Any) -> list[Sample]:
    """For a play that gives one sample."""
    return [play(stage, **how)]
