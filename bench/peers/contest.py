"""Who plays when: a sweep that finds each one's best settings, then rounds in which flowq and each peer play in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from bench.conditions import Gone, load_average
from bench.peers import workloads
from bench.peers.peer import Contestant
from bench.peers.samples import Measure, Row
from bench.peers.stage import Stage, stage_of
from bench.peers.workloads import Sample
from bench.server import Server

REFERENCES = {"a": "flowq trio limit=50", "b": "flowq trio", "d": "flowq trio", "g": "flowq trio"}
"""Whom each contestant of a workload is compared with."""
TRIES = 2
"""How often a contestant may fail in a workload before the rounds go on without it."""

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


@attrs.define
class Contest:
    """A run, and what has come out of it so far."""

    server: Server
    contestants: Sequence[Contestant]
    plan: Plan
    rows: dict[tuple[Measure, str], Row] = attrs.field(factory=dict)
    failures: list[dict[str, str]] = attrs.field(factory=list)
    loads: list[float] = attrs.field(factory=list)
    settings: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    swept: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    rates: dict[str, float] = attrs.field(factory=dict)

    def sweep(self) -> None:
        """Find each contestant's best settings by its no-op rate."""
        for contestant in self.contestants:
            self.swept[contestant.name] = []
            for settings in contestant.peer.settings:
                try:
                    rate = self._rate(contestant, settings)
                except Gone as gone:
                    self._failed("sweep", contestant, f"{settings}: {gone}")
                    continue
                self.swept[contestant.name].append({"settings": settings, "jobs/s": rate})
                if rate > self.rates.get(contestant.name, 0.0):
                    self.rates[contestant.name] = rate
                    self.settings[contestant.name] = settings
            if contestant.name in self.rates:
                self._say(
                    f"sweep: {contestant.name}: {self.rates[contestant.name]:,.0f}/s with {self.settings[contestant.name]}"
                )

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
        players = [
            who
            for who in self.contestants
            if (not who.only or workload in who.only) and who.name in self.settings
        ]
        for play in self._plays(workload):
            failed: dict[str, int] = {}
            for number in range(self.plan.rounds):
                order = players if number % 2 == 0 else players[::-1]
                fit = [who for who in order if failed.get(who.name, 0) < TRIES]
                for who in self._round(workload, play, fit, number):
                    failed[who.name] = failed.get(who.name, 0) + 1

    def _plays(self, workload: str) -> Iterator[Play]:
        seconds = self.plan.seconds
        if workload == "a":
            for processes in self.plan.processes:
                yield partial(self._noops, processes)
        elif workload == "b":
            for way in workloads.WAYS:
                yield lambda stage, way=way: [workloads.stored(stage, way, seconds)]  # type: ignore[misc]  # mypy infers no type for a lambda's default
        elif workload == "d":
            yield lambda stage: workloads.latencies(stage, 0.0, seconds)
            yield lambda stage: workloads.latencies(stage, self.rates[stage.contestant.name] / 2, seconds)
        else:
            yield lambda stage: [workloads.recovered(stage, self.plan.patience)]

    def _noops(self, processes: int, stage: Stage) -> list[Sample]:
        jobs = self._jobs(self.rates[stage.contestant.name], processes * self.plan.seconds)
        return [workloads.noops(stage, processes, jobs)]

    def _round(
        self, workload: str, play: Play, players: Sequence[Contestant], number: int
    ) -> list[Contestant]:
        """One turn of each; those that failed.

        In workload (a) the reference plays before or after each other contestant, in turns; elsewhere once a round.
        """
        reference = next((who for who in players if who.name == REFERENCES[workload]), None)
        once = None if reference is None or workload == "a" else self._turn(workload, play, reference)
        failed = []
        for who in players:
            if who is reference:
                continue
            ours, theirs = once, None
            if workload == "a" and reference is not None and number % 2 == 0:
                ours = self._turn(workload, play, reference)
            theirs = self._turn(workload, play, who)
            if workload == "a" and reference is not None and number % 2 == 1:
                ours = self._turn(workload, play, reference)
            if theirs is None:
                failed.append(who)
            for mine, its in zip(ours or [], theirs or [], strict=False):
                self.rows[its.measure, who.name].pairs.append((mine.value, its.value))
        if reference is not None and len(players) == 1 and workload == "a":
            self._turn(workload, play, reference)
        return failed

    def _turn(self, workload: str, play: Play, who: Contestant) -> list[Sample] | None:
        """Play, and keep what came out."""
        self.loads.append(load_average())
        began = time.monotonic()
        try:
            with stage_of(who, self.settings[who.name], self.server) as stage:
                samples = play(stage)
                remarks = stage.remarks
        except Gone as gone:
            self._failed(workload, who, str(gone))
            return None
        for sample in samples:
            row = self.rows.setdefault(
                (sample.measure, who.name),
                Row(sample.measure, who.name, who.peer.here, settings=self.settings[who.name]),
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
