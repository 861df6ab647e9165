"""What ``--profile=nightly`` runs, and what a session says of it at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from property_tests import report
from property_tests.conftest import NIGHTLY, SEED, parts

from .test_lease_machine import VERSIONS


def session(*arguments: str, **env: str) -> str:
    """What pytest prints, here, with nothing of our own session's profile in its environment."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=Path(__file__).parents[1],
        env={**ours, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_night_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 examples of the machine, on whatever servers are here, and 2,000 simulated runs; each part has a seed of its own."""
    monkeypatch.setenv("FLOWQ_PROFILE", "nightly")
    monkeypatch.setenv(SEED, "7")
    monkeypatch.delenv("FLOWQ_EXAMPLES", raising=False)
    night = {check: parts(check) for check in NIGHTLY}
    newest = sum(part.examples for part in night["machine"])
    older = sum(part.examples // 3 for part in night["machine"]) * (len(VERSIONS) - 1)
    assert newest + older >= 10_000 - len(night["machine"])
    assert sum(part.examples for part in night["simulation"]) == 2_000
    for found in night.values():
        assert len({part.seed for part in found}) == len(found)


def test_the_command_finds_its_parts_and_names_the_seed() -> None:
    """A part is a test: it can be run alone, and again, with the seed of the header."""
    listed = session(
        "property_tests/test_simulation.py", "--profile=nightly", "--collect-only", "-q", "-k", "no_promise"
    )
    assert len(re.findall(r"test_no_promise_breaks\[part\d+\]", listed)) == len(parts_of_a_night())
    header = session("property_tests/test_nightly.py", "--profile=nightly", "--collect-only", FLOWQ_SEED="42")
    assert f"profile: nightly, {SEED}=42" in header


def parts_of_a_night() -> range:
    return range(0, NIGHTLY["simulation"], 100)


@pytest.mark.slow
def test_the_session_reports_what_its_parts_did() -> None:
    """Two parts of two processes are one paragraph: examples, steps, faults and virtual hours, and how much of each in a second."""
    said = session(
        "property_tests/test_simulation.py", "--profile=nightly", "-q", "-k", "no_promise", "-n", "2",
        FLOWQ_EXAMPLES="8", FLOWQ_PART="4",
    )  # fmt: skip
    [line] = re.findall(r"^simulation .*$", said, re.MULTILINE)
    counts = re.search(
        r": ([\d,]+) examples, ([\d,]+) steps, ([\d,]+) faults, ([\d.]+) virtual hours in [\d,]+ s and 2 parts",
        line,
    )
    assert counts, line
    assert int(counts[1]) >= 8
    assert re.search(r"a second: [\d.]+ examples, [\d,]+ steps, [\d.]+ faults, [\d.]+ virtual hours", said)


def test_a_report_adds_up() -> None:
    """Of one check from all of its parts; places that were reached are counted once."""
    recorded: list[tuple[str, object]] = [("other", 1)]

    def record(name: str, value: object) -> None:
        recorded.append((name, value))

    counts = {"examples": 10, "steps": 100, "faults": 5, "virtual seconds": 7200, "bodies": 3}
    report.tell(record, "a", 2.0, counts, {"x:1", "x:2"})
    report.tell(record, "a", 3.0, counts, {"x:2", "x:3"})
    report.tell(record, "b", 1.0, counts)
    assert report.lines(report.told(recorded)) == [
        "a: 20 examples, 200 steps, 10 faults, 4.0 virtual hours in 5 s and 2 parts",
        "  a second: 4.00 examples, 40 steps, 2.0 faults, 0.8000 virtual hours",
        "  places reached: 3",
        "  bodies 6",
        "b: 10 examples, 100 steps, 5 faults, 2.0 virtual hours in 1 s and 1 parts",
        "  a second: 10.00 examples, 100 steps, 5.0 faults, 2.0000 virtual hours",
        "  bodies 3",
    ]
