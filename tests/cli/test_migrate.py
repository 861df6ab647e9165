"""``flowq migrate legacy``: each old task becomes one job, whoever dies meanwhile, and goes back as long as nobody has started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowq.cli import ledger as books
from tests.cli.stage import Ran, Stage, policy

Run = Callable[..., Ran]
Flags = tuple[str, ...]


class Old:
    """The old layout of one test, under keys of its own."""

    def __init__(self, stage: Stage) -> None:
        self.client = stage.client
        self.pending = f"{stage.name}:pending"
        self.task = f"{stage.name}:task:{{id}}"
        self.keys: Flags = ("--pending", self.pending, "--task", self.task)

    def add(self, task_id: str, score: float, **fields: str) -> None:
        if fields:
            self.client.hset(self.task.replace("{id}", task_id), mapping=fields)
        self.client.zadd(self.pending, {task_id: score})

    def waiting(self) -> list[str]:
        return [one.decode() for one in self.client.zrange(self.pending, 0, -1)]


@pytest.fixture
def old(stage: Stage) -> Old:
    return Old(stage)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def numbers(stage: Stage, lane: str = "resize") -> list[int]:
    """The first argument of each ready job, in the stream's order."""
    rows = stage.client.xrange(stage.keys.stream(lane))
    return [json.loads(fields[b"d"])["args"][0] for _, fields in rows]


def test_what_a_score_means_has_no_default(flowq: Run, old: Old) -> None:
    """A time and a priority look alike; guessing would run things early, or in the wrong order."""
    ran = flowq("migrate", "legacy", "run", *old.keys)
    assert ran.code == 2
    assert "--score" in ran.err


def test_times_become_timers(stage: Stage, flowq: Run, old: Old, book: Path) -> None:
    """What was due is ready, in the order of the scores; what is due later waits for its time."""
    now = time.time()
    old.add("b", now - 5, name="resize", args="[2]")
    old.add("a", now - 9, name="resize", args="[1]", kwargs='{"width": 3}')
    old.add("c", now + 1000, name="resize", args="[3]")

    ran = flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)

    assert ran.code == 0, ran.err
    assert "3 tasks are moved" in ran.out
    assert numbers(stage) == [1, 2]
    [(job, _)] = stage.client.zrange(stage.keys.delayed, 0, -1, withscores=True)
    lane, _, envelope = stage.client.hget(stage.keys.delayed_data, job).decode().partition("|")
    assert (lane, json.loads(envelope)) == (
        "resize",
        {"id": job.decode(), "v": 1, "task": "resize", "args": [3]},
    )
    assert old.waiting() == []
    assert [(line.id, line.what) for line in books.read(book)] == [
        ("a", "ready"),
        ("b", "ready"),
        ("c", "delayed"),
    ]
    assert flowq("migrate", "legacy", "verify", "--ledger", str(book), *old.keys[:2]).code == 0
    assert flowq("doctor").code == 0


@pytest.mark.parametrize(("first", "order"), [("high", [3, 2, 1]), ("low", [1, 2, 3])])
def test_priorities_are_an_order(
    stage: Stage, flowq: Run, old: Old, book: Path, first: str, order: list[int]
) -> None:
    """Which end of the set goes first is said, and all of it is ready at once."""
    for n in (1, 2, 3):
        old.add(str(n), n, name="resize", args=f"[{n}]")
    flowq(
        "migrate", "legacy", "run", "--score", "priority", "--first", first, "--ledger", str(book), *old.keys
    )
    assert numbers(stage) == order


def test_arguments_stay_the_text_that_they_were(stage: Stage, flowq: Run, old: Old, book: Path) -> None:
    """Large integers, and an empty list that a Lua table would turn into an object."""
    old.add("a", 0, name="old_name", args="[12345678901234567890, [], 1e2]")
    flowq(
        "migrate",
        "legacy",
        "run",
        "--score",
        "due",
        "--map",
        "old_name=new.name",
        "--ledger",
        str(book),
        *old.keys,
    )
    [(_, fields)] = stage.client.xrange(stage.keys.stream("new.name"))
    assert fields[b"d"] == b'{"v":1,"task":"new.name","args":[12345678901234567890, [], 1e2]}'


def test_what_cannot_become_a_job_is_kept_with_its_reason(
    stage: Stage, flowq: Run, old: Old, book: Path
) -> None:
    """No hash, no name, arguments that are no JSON, a name that no task can have: in the audit list, out of the set, nothing lost."""
    old.add("fine", 1, name="resize", args="[1]")
    old.add("orphan", 2)
    old.add("nameless", 3, args="[1]")
    old.add("broken", 4, name="resize", args="[1")
    old.add("object", 5, name="resize", args="{}")
    old.add("empty", 6, name="resize")
    old.add("odd", 7, name="re size", args="[1]")

    dry = flowq("migrate", "legacy", "run", "--score", "due", "--dry-run", "--ledger", str(book), *old.keys)
    before, written = len(old.waiting()), stage.client.keys(stage.keys.legacy("*"))
    ran = flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)

    assert (before, written) == (7, [])
    for said in (dry.out, ran.out):
        assert "orphan: there is no hash" in said
        assert "broken: its field args is no JSON array" in said
        assert "and 1 more" in said
    assert "1 tasks would be moved, of 7 in the set" in dry.out
    assert stage.client.hlen(stage.keys.legacy("audit")) == 6
    assert numbers(stage) == [1]


def test_another_migration_with_other_options_is_refused(flowq: Run, old: Old, book: Path) -> None:
    """Beside the first one: the same tasks would come out otherwise, depending on who was faster."""
    old.add("a", 1, name="resize", args="[1]")
    flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)
    ran = flowq("migrate", "legacy", "run", "--score", "priority", "--ledger", str(book), *old.keys)
    assert ran.code != 0
    assert "has begun with other options (score due s;" in ran.err


def test_rollback_returns_exactly_what_was_not_started(
    stage: Stage, flowq: Run, old: Old, book: Path
) -> None:
    """With its score; what runs, what ended and what came new stay. After new work began it says so."""
    now = time.time()
    for n in range(6):
        old.add(f"t{n}", now - 10 + n, name="resize", args=f"[{n}]")
    old.add("later", now + 1000, name="resize", args="[9]")
    flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)
    new = stage.submit("resize", 77)
    me = stage.join(resize=policy())
    begun = stage.claim(me, room=2)

    dry = flowq("migrate", "legacy", "rollback", "--dry-run", "--ledger", str(book), *old.keys[:2])
    nothing = old.waiting()
    ran = flowq("migrate", "legacy", "rollback", "--ledger", str(book), *old.keys[:2])

    assert len(begun) == 2
    assert "5 tasks would go back" in dry.out
    assert nothing == []
    assert "5 tasks are back" in ran.out
    assert "2 had begun or ended and stay here" in ran.out
    assert sorted(old.waiting()) == ["later", "t2", "t3", "t4", "t5"]
    assert abs(stage.client.zscore(old.pending, "later") - (now + 1000)) < 0.01
    assert numbers(stage) == [0, 1, 77]
    assert new.startswith("resize:")
    again = flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)
    assert "5 tasks are moved" in again.out
    assert sorted(numbers(stage)) == [0, 1, 2, 3, 4, 5, 77]
    assert flowq("migrate", "legacy", "verify", "--ledger", str(book), *old.keys[:2]).code == 0


def test_a_rollback_without_a_migration_says_so(flowq: Run, old: Old, book: Path) -> None:
    """Nothing is touched."""
    ran = flowq("migrate", "legacy", "rollback", "--ledger", str(book), *old.keys[:2])
    assert ran.code != 0
    assert "no migration of app" in ran.err


def test_verify_finds_what_is_wrong(stage: Stage, flowq: Run, old: Old, book: Path) -> None:
    """Tasks that are left, and a line of which the server knows nothing."""
    old.add("a", 1, name="resize", args="[1]")
    flowq("migrate", "legacy", "run", "--score", "due", "--ledger", str(book), *old.keys)
    old.add("b", 2, name="resize", args="[2]")
    stage.client.hdel(stage.keys.legacy("moved"), "a")
    ran = flowq("migrate", "legacy", "verify", "--ledger", str(book), *old.keys[:2])
    assert ran.code == 1
    assert "WRONG: a stands in a ledger, and the server does not know it" in ran.out
    assert "WRONG: 1 tasks are left" in ran.out


def test_two_movers_that_are_both_killed(stage: Stage, flowq: Run, old: Old, tmp_path: Path) -> None:
    """5,000 tasks, two movers, each SIGKILLed on its way and started again: as many distinct jobs, none lost or doubled, in order."""
    count = 5000
    with stage.client.pipeline(transaction=False) as pipe:
        for n in range(count):
            pipe.hset(old.task.replace("{id}", f"t{n}"), mapping={"name": "resize", "args": f"[{n}]"})
            pipe.zadd(old.pending, {f"t{n}": n})
        pipe.execute()
    paths = [tmp_path / f"mover{n}.jsonl" for n in range(2)]

    def start(path: Path) -> subprocess.Popen[bytes]:
        words = [
            sys.executable,
            "-m",
            "flowq",
            "migrate",
            "legacy",
            "run",
            "--score",
            "due",
            "--ledger",
            str(path),
            *old.keys,
        ]
        environment = {**os.environ, "FLOWQ_URL": stage.url, "FLOWQ_NAME": stage.name}
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    movers = [start(path) for path in paths]
    for mover, path in zip(movers, paths, strict=True):
        limit = time.monotonic() + 30
        while (
            not (path.exists() and path.stat().st_size) and mover.poll() is None and time.monotonic() < limit
        ):
            time.sleep(0.001)
        mover.send_signal(signal.SIGKILL)
        mover.wait()
    movers = [start(path) for path in paths]
    assert [mover.wait(60) for mover in movers] == [0, 0]

    ran = flowq(
        "migrate",
        "legacy",
        "verify",
        *(word for path in paths for word in ("--ledger", str(path))),
        *old.keys[:2],
    )
    assert ran.code == 0, ran.out
    assert numbers(stage) == list(range(count))
    assert f"moved: {count} tasks, {count} jobs" in ran.out
