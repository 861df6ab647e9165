"""What the evidence of a run amounts to: one figure a question, and whether it is as promised. Imports nothing of flowq."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

import attrs

from tests.stress import witness
from tests.stress.tokens import Use, use_of
from tests.stress.witness import Evidence, Recovery

USED: Final = 0.95
"""Of the available tokens, at least, while work for them was waiting."""
OUT: Final = 0.5
"""A run in which more than this share of the token seconds was taken out for faults does not count."""


@attrs.define
class Row:
    """One question, its answer, and whether that is as promised."""

    question: str
    answer: str
    is_right: bool = True
    details: list[str] = attrs.field(factory=list)


@attrs.define
class Verdict:
    """All of it."""

    rows: list[Row]
    figures: dict[str, Any]

    @property
    def is_right(self) -> bool:
        """No promise was broken."""
        return all(row.is_right for row in self.rows)


def judge(evidence: Evidence, *, left: list[str], fast: bool = True) -> Verdict:
    """Answer every question.

    Args:
        left: what was still outstanding at the end.
        fast: hold figures of time (recovery, use of tokens) against their targets too. A busy machine may miss them while every
            promise holds.
    """
    figures: dict[str, Any] = {}
    rows = [
        *_load(evidence, figures),
        *_outcomes(evidence, figures, left),
        *_peaks(evidence, figures),
        *_stale(evidence, figures),
        *_tokens(evidence, figures, fast=fast),
        *_recovery(evidence, figures, fast=fast),
    ]
    return Verdict(rows, figures)


def _load(evidence: Evidence, figures: dict[str, Any]) -> list[Row]:
    begin, end = span(evidence)
    stored = [job for job in evidence.jobs if job.stored is not None]
    faults = Counter(
        event.kind
        for event in evidence.events
        if event.kind not in {"birth", "death", "supervisor", "begin", "end"} and begin <= event.at < end
    )
    rate = len(stored) / (end - begin) if end > begin else math.nan
    figures |= {"jobs": len(stored), "seconds": end - begin, "jobs_per_second": rate, "faults": dict(faults)}
    figures["deaths"] = sum(event.kind == "death" and event.code == -9 for event in evidence.events)
    return [
        Row("jobs submitted", f"{len(stored)}, {rate:.0f}/s over {end - begin:.0f} s"),
        Row("faults", ", ".join(f"{count} {kind}" for kind, count in faults.most_common())),
    ]


def _outcomes(evidence: Evidence, figures: dict[str, Any], left: list[str]) -> list[Row]:
    lost, doubles = witness.lost(evidence), witness.doubles(evidence)
    copies, excused = witness.copies(evidence)
    ends = witness.unexpected_ends(evidence)
    perhaps = sum(job.stored is None for job in evidence.jobs)
    figures |= {
        "lost": len(lost), "double_outcomes": len(doubles), "second_copies": len(copies), "copies_by_clock": excused,
        "unexpected_ends": len(ends), "never_confirmed": perhaps,
    }  # fmt: skip
    rows = [
        Row("lost", str(len(lost)), not lost, lost + [f"outstanding: {what}" for what in left]),
        Row("outcomes recorded twice", str(len(doubles)), not doubles, doubles),
        Row("submits that became two jobs", str(len(copies)), not copies, copies),
        Row("workers that ended by themselves", str(len(ends)), not ends, ends),
    ]
    if gone := sum(job.job in evidence.cut for job in evidence.jobs):
        figures["gone_with_the_tail"] = gone
        rows.append(Row("submits that the server forgot with its tail", str(gone)))
    if by_supervisors := witness.killed_by_supervisors(evidence):
        figures["killed_by_supervisors"] = len(by_supervisors)
        rows.append(Row("workers past their lease that their supervisor killed", str(len(by_supervisors))))
    if excused:
        rows.append(Row("second copies, marker taken by a clock step (P6)", str(excused)))
    if perhaps:
        rows.append(Row("submits whose fate the producer never learned", str(perhaps)))
    return rows


def _peaks(evidence: Evidence, figures: dict[str, Any]) -> list[Row]:
    rows = []
    figures["peaks"] = {}
    for task, limit in evidence.limits.items():
        peak, when = witness.peak(witness.counted_spans(evidence, task))
        figures["peaks"][task] = {"peak": peak, "limit": limit}
        details = [] if peak <= limit else [f"{task}: {peak} at once at {when:.6f}"]
        rows.append(Row(f"peak of {task}, limit {limit}", str(peak), peak <= limit, details))
    return rows


def _stale(evidence: Evidence, figures: dict[str, Any]) -> list[Row]:
    stale, settled = witness.stale_bodies(evidence), witness.stale_settles(evidence)
    figures |= {"stale_bodies": len(stale), "stale_settles": len(settled)}
    return [
        Row("stale bodies after SIGSTOP, and how many settled", f"{len(stale)}, {len(settled)}", not settled, settled)
    ]  # fmt: skip


def _tokens(evidence: Evidence, figures: dict[str, Any], *, fast: bool) -> list[Row]:
    begin, end = span(evidence)
    uses = {task: use_of(evidence, task, begin, end) for task in evidence.limits}
    whole = Use(
        used=sum(use.used for use in uses.values()),
        available=sum(use.available for use in uses.values()),
        taken_out=sum(use.taken_out for use in uses.values()),
    )
    figures["tokens"] = {
        task: {"used": use.share, "taken_out": use.share_out} for task, use in [*uses.items(), ("all", whole)]
    }
    rows = []
    for task, use in uses.items():
        right = not fast or math.isnan(use.share) or use.share >= USED
        answer = f"{use.share:.1%} of those available; {use.share_out:.0%} taken out for faults"
        rows.append(Row(f"tokens of {task} used, work waiting", answer, right))
    counts = whole.share_out <= OUT
    rows.append(Row("token time taken out in all", f"{whole.share_out:.0%}", counts or not fast))
    return rows


def _recovery(evidence: Evidence, figures: dict[str, Any], *, fast: bool) -> list[Row]:
    found = witness.recoveries(evidence)
    plain = [recovery.seconds for recovery in found if not recovery.disturbed]
    late = [recovery for recovery in found if recovery.seconds > recovery.allowed]
    over = witness.percentile([recovery.seconds - recovery.allowed for recovery in found], 0.99)
    figures["recovery"] = {
        "count": len(found), "disturbed": len(found) - len(plain), "late": len(late),
        "median": witness.percentile(plain, 0.5), "p99": witness.percentile(plain, 0.99),
        "max": max(plain, default=math.nan), "max_disturbed": max((r.seconds for r in found if r.disturbed), default=0.0),
    }  # fmt: skip
    row = figures["recovery"]
    answer = f"median {row['median']:.2f} s, p99 {row['p99']:.2f} s, max {row['max']:.2f} s ({len(plain)} jobs of lost workers)"
    right = not fast or math.isnan(over) or over <= 0
    rows = [Row(f"recovery, at most {evidence.ttl + 1:g} s", answer, right, [_late(r) for r in late])]
    if len(found) > len(plain):
        text = f"max {row['max_disturbed']:.2f} s ({len(found) - len(plain)} jobs)"
        rows.append(Row("recovery into which a server fault or a second loss fell", text))
    return rows


def _late(recovery: Recovery) -> str:
    return (
        f"{recovery.task} of worker {recovery.pid}, lost at {recovery.at:.3f}: {recovery.seconds:.2f} s, "
        f"allowed {recovery.allowed:.2f} s"
    )


def span(evidence: Evidence) -> tuple[float, float]:
    """The load's time."""
    begin = next((event.at for event in evidence.events if event.kind == "begin"), 0.0)
    return begin, next((event.at for event in evidence.events if event.kind == "end"), begin)
