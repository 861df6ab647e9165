"""``flowq demo``: the real thing, and that its proof would notice if what it claims did not hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from flowq.cli.demo_proof import Body, Kill, average, peak, prove, read_bodies


def story() -> tuple[list[Body], Kill]:
    """12 bodies of 1 s, three at a time on processes 1, 2 and 3; process 2 is killed at 1.5, and its job runs again at 3.5 on 4."""
    bodies = [Body("example", f"e{pid}{n}", pid, n, n + 1) for n in range(5) for pid in (1, 3)]
    bodies += [
        Body("example", "e20", 2, 0, 1),
        Body("example", "e21", 2, 1, None),
        Body("example", "e21", 4, 3.5, 4.5),
    ]
    return sorted(bodies, key=lambda b: b.start), Kill(2, 1.5, 1.52, ("e21",))


def test_the_story_holds() -> None:
    """A fleet that does what it should: peak 3, three processes, recovery measured from the kill."""
    bodies, kill = story()

    proof = prove(bodies, kill)

    assert proof.peak == 3
    assert proof.recovery == 2.0
    assert proof.defects(3) == []


def test_a_fourth_body_is_noticed() -> None:
    """One body too many at any moment is a defect, the killed process' last moments included."""
    bodies, kill = story()

    early = prove([*bodies, Body("example", "x", 1, 0.2, 0.3)], kill)
    last_moment = prove([*bodies, Body("example", "x", 1, 1.51, 1.6)], kill)

    assert "4 example bodies ran at once" in early.defects(3)[0]
    assert "4 example bodies ran at once" in last_moment.defects(3)[0]


def test_one_at_a_time_is_noticed() -> None:
    """The mutex that the old designs were: one body at a time is not what limit 3 means."""
    bodies = [Body("example", f"e{n}", n % 3, n, n + 1) for n in range(12)]

    proof = prove([*bodies, Body("example", "e5", 0, 8.2, 8.4)], Kill(9, 5.5, 5.5, ("e5",)))

    assert proof.peak == 2
    assert any("ran on average" in defect for defect in proof.defects(3))


def test_one_lucky_worker_is_noticed() -> None:
    """Everything on two processes is no fleet."""
    bodies, kill = story()

    proof = prove([attrs.evolve(b, pid=2 if b.pid == 2 else 1) for b in bodies], kill)

    assert "only 2 worker processes ran example bodies" in proof.defects(3)


def test_a_lost_job_is_noticed() -> None:
    """A cut-off job that never runs again is a defect."""
    bodies, kill = story()

    proof = prove([b for b in bodies if b.start != 3.5], kill)

    assert proof.recovery is None
    assert "the cut-off jobs did not run again" in proof.defects(3)


def test_bodies_that_touch_do_not_overlap() -> None:
    """One that ends at the very moment at which the next begins is one at a time."""
    assert peak([(0, 1), (1, 2), (2, 3)]) == 1
    assert average([(0, 1), (1, 2)], [(0, 4)]) == 0.5


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    """A witness file is read while it is being written."""
    row = {"task": "example", "job": "e1", "pid": 1, "fence": 7}
    (tmp_path / "1.jsonl").write_text(
        json.dumps({**row, "start": 1.0}) + "\n" + json.dumps({**row, "end": 2.0})[:20]
    )

    bodies = read_bodies(tmp_path)

    assert [(b.start, b.end) for b in bodies] == [(1.0, None)]


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_demo(tmp_path: Path) -> None:
    """``flowq demo --quick`` shows the story without any server, proves it, and leaves nothing behind."""
    ran = subprocess.run(
        [sys.executable, "-m", "flowq", "demo", "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "FLOWQ_RUN_DIR": str(tmp_path), "COLUMNS": "200"},
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"most example bodies at once +3 \(limit 3\)", ran.stdout)
    assert "12 example and 40 email enqueued, 0 lost" in ran.stdout
    assert "Holds:" in ran.stdout
    assert list(tmp_path.glob("flowq-demo-*")) == []
