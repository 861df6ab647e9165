"""The witness finds what it shall find, in logs written by hand: each defect is there once, and nothing else is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tests.stress import aof, witness
from tests.stress.by_hand import Case, command, written
from tests.stress.tokens import use_of


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Three jobs of ``one``, one after the other, and two of ``two`` at once."""
    found = Case(tmp_path)
    for number in (1, 2, 3):
        found.whole(number, number, number + 0.9)
    found.whole(4, 1.0, 2.0, task="two")
    found.whole(5, 1.5, 2.5, task="two", pid=11)
    return found


def test_nothing_is_said_of_a_good_run(case: Case) -> None:
    """Every job ran, none twice, none too many."""
    assert case.wrong() == {}


def test_a_lost_job_is_found(case: Case) -> None:
    """Stored, and no outcome on record, whether a body ran or not."""
    case.submit(6)
    case.submit(7)
    case.run(7, 8.0, 8.5)
    assert case.wrong() == {
        "lost": [
            "one:6-0 (number 6): stored, and no outcome is on record",
            "one:7-0 (number 7): stored, and no outcome is on record",
        ]
    }


def test_a_submit_that_was_never_confirmed_may_be_lost(case: Case) -> None:
    """Nobody was told that it is stored."""
    case.jobs.append("5.0 1 intent one 6")
    assert case.wrong() == {}


def test_an_outcome_without_a_body_is_found(case: Case) -> None:
    """A success that no body returned: of no run at all, or of a run that was cut off."""
    case.succeed(case.submit(6), "99.1")
    case.succeed(case.submit(7), case.run(7, 8.0, 8.5, how="cut"))
    assert [line.partition(":")[2] for line in case.wrong()["lost"]] == [
        "6-0: succeeded with '99.1', which no body returned",
        "7-0: succeeded with '10.70', which no body returned",
    ]


def test_an_innocent_dead_letter_is_found(case: Case) -> None:
    """Only deadly types end as dead letters, and those do not succeed."""
    case.outcomes.append((case.submit(6), {"status": "dead", "kind": "crashed"}))
    case.outcomes.append((case.submit(7, "poison"), {"status": "dead", "kind": "crashed"}))
    assert case.wrong() == {"lost": ["one:6-0: ended as dead crashed"]}


def test_a_double_outcome_is_found(case: Case) -> None:
    """The same job recorded twice, though by the same run."""
    case.succeed("one:2-0", "10.20")
    assert case.wrong() == {"outcomes recorded twice": ["one:2-0: 2 outcomes"]}


def test_an_overlap_is_found(case: Case) -> None:
    """One body too many, for a millisecond."""
    case.whole(6, 1.899, 1.95, pid=11)
    assert case.wrong() == {"peak of one, limit 1": ["one: 2 at once at 1.899000"]}


def test_a_body_that_begins_when_another_ends_is_no_overlap(case: Case) -> None:
    """At the very same microsecond."""
    case.whole(6, 3.9, 4.5, pid=11)
    assert case.wrong() == {}


def killed_in_a_body(case: Case, again_at: float) -> None:
    """A worker is killed at 10.0 and reaped at 10.2; its job begins elsewhere."""
    job = case.submit(6)
    case.run(6, 9.5, None, pid=20)
    case.happens("kill", 10.0, pid=20)
    case.happens("death", 10.2, pid=20, code=-9)
    case.succeed(job, case.run(6, again_at, again_at + 0.5, pid=21, fence=61))


def test_a_killed_body_runs_until_it_was_reaped(case: Case) -> None:
    """Between SIGKILL and waitpid it counts."""
    killed_in_a_body(case, again_at=10.1)
    assert list(case.wrong()) == ["peak of one, limit 1"]


def test_a_killed_body_is_over_when_it_was_reaped(case: Case) -> None:
    """Afterwards it does not."""
    killed_in_a_body(case, again_at=10.3)
    assert case.wrong() == {}


@pytest.mark.parametrize(
    ("until", "left_at", "is_right"),
    [(14.0, 14.5, True), (14.0, 15.5, False), (11.0, 12.5, False)],
    ids=["while stopped, and a moment after", "still there long after SIGCONT", "continued too soon"],
)
def test_a_stopped_body_is_excused_as_long_as_it_is_stopped(
    case: Case, until: float, left_at: float, is_right: bool
) -> None:
    """From SIGSTOP until a moment after SIGCONT, as the killer's log says it."""
    job = case.submit(6)
    case.run(6, 9.5, left_at, pid=20, how="cut")
    case.happens("stop", 10.0, until=until, pid=20)
    case.succeed(job, case.run(6, 12.1, 15.4, pid=21, fence=61))
    assert list(case.wrong()) == ([] if is_right else ["peak of one, limit 1"])


def test_an_overlap_without_a_stop_is_not_excused(case: Case) -> None:
    """A cut line excuses nothing: the worker has to end its bodies by itself."""
    job = case.submit(6)
    case.run(6, 9.5, 12.5, pid=20, how="cut")
    case.happens("link", 10.0, until=14.0, pid=20)
    case.succeed(job, case.run(6, 12.1, 13.4, pid=21, fence=61))
    assert list(case.wrong()) == ["peak of one, limit 1"]


def test_a_stale_settle_is_found(case: Case) -> None:
    """A stopped worker comes back, and the outcome on record is its own, though the job had begun elsewhere."""
    job = case.submit(6, "two")
    stale = case.run(6, 9.5, 14.2, task="two", pid=20)
    case.happens("stop", 10.0, until=14.0, pid=20)
    case.run(6, 12.1, 15.0, task="two", pid=21, fence=61)
    case.succeed(job, stale)
    assert case.wrong() == {
        "stale bodies after SIGSTOP, and how many settled": [
            "two:6-0: the outcome is of run 20.60 (fence 60), though run 21.61 (fence 61) had begun"
        ]
    }
    assert [run.token for run in witness.stale_bodies(case.evidence())] == ["20.60"]


def test_a_submit_that_became_two_jobs_is_found(case: Case) -> None:
    """The same number under two ids; a clock step within the submit is the documented exception."""
    for number, at in ((6, 20.0), (7, 30.0)):
        case.submit(number, at=at)
        case.succeed(f"one:{number}-0", case.run(number, at + 1, at + 1.5))
        second = f"one:{number}-1"
        case.succeed(second, case.run(number, at + 2, at + 2.5, job=second, fence=number * 10 + 1))
    case.happens("clock", 30.0005)
    assert case.wrong() == {"submits that became two jobs": ["number 6 became ['one:6-0', 'one:6-1']"]}
    assert witness.copies(case.evidence())[1] == 1


@pytest.mark.parametrize(
    ("kind", "code", "is_right"),
    [
        ("", 1, False),
        ("", 0, False),
        ("", -9, False),
        ("kill", -9, True),
        ("kill", 1, False),
        ("stop", -9, True),
        ("term", 0, True),
        ("term", 3, True),
        ("term", 1, False),
        ("term", -15, False),
        ("term term", -15, True),
        ("term term", -9, False),
    ],
)
def test_a_worker_that_ends_by_itself_is_found(case: Case, kind: str, code: int, is_right: bool) -> None:
    """Only who was killed may die, and who was told to stop ends well."""
    for one in kind.split():
        case.happens(one, 9.0, pid=20)
    case.happens("death", 9.5, pid=20, code=code)
    assert list(case.wrong()) == ([] if is_right else ["workers that ended by themselves"])


def test_recovery_is_timed_from_the_reaping(case: Case) -> None:
    """To the next start of the job that was lost with its worker."""
    killed_in_a_body(case, again_at=12.0)
    [recovery] = witness.recoveries(case.evidence())
    assert (round(recovery.seconds, 6), recovery.allowed, recovery.disturbed) == (1.8, 3.0, False)


def test_who_took_over_may_be_lost_in_its_turn(case: Case) -> None:
    """A reply that granted the job may have been on its way to a worker that was killed by then: it counts from that loss, if it came
    when the first lease was about to end.
    """
    case.succeed(case.submit(9), case.run(9, 52.5, 53.0, fence=91, pid=11))
    case.run(9, 49.0, None, fence=90)
    case.happens("death", 50.0, pid=10, code=-9)
    case.happens("death", 51.0, pid=12, code=-9)
    [before] = witness.recoveries(case.evidence())
    assert (before.allowed, before.disturbed) == (3.0, False)
    case.happens("death", 51.7, pid=13, code=-9)
    [again] = witness.recoveries(case.evidence())
    assert (round(again.allowed, 6), again.disturbed) == (4.7, True)


def test_a_late_recovery_is_found(case: Case) -> None:
    """More than TTL + 1 s; a server fault that falls into it adds its length and one lease."""
    killed_in_a_body(case, again_at=14.0)
    assert "recovery, at most 3 s" in case.wrong(fast=True)
    case.happens("server", 11.0, until=11.5)
    [recovery] = witness.recoveries(case.evidence())
    assert (recovery.allowed, recovery.disturbed) == (5.5, True)
    assert "recovery, at most 3 s" not in case.wrong(fast=True)


def test_a_job_whose_settle_was_cut_off_counts_as_lost_with_its_worker(case: Case) -> None:
    """Its body had ended, and nobody was told: it has to run again."""
    job = case.submit(6)
    case.run(6, 9.0, 9.9, pid=20)
    case.happens("kill", 10.0, pid=20)
    case.happens("death", 10.0, pid=20, code=-9)
    case.succeed(job, case.run(6, 11.5, 12.0, pid=21, fence=61))
    assert case.wrong() == {}
    assert [recovery.seconds for recovery in witness.recoveries(case.evidence())] == [1.5]


def test_idle_tokens_are_found(tmp_path: Path) -> None:
    """Work waits, and half of the tokens are idle half of the time: three quarters were used."""
    case = Case(tmp_path)
    for number in range(1, 6):
        case.submit(number, "two")
    case.run(1, 0.0, 10.0, task="two")
    case.run(2, 5.0, 10.0, task="two")
    use = use_of(case.evidence(), "two", 0.002, 10.0)
    assert (round(use.share, 3), use.taken_out) == (0.75, 0.0)


def test_no_work_waiting_needs_no_tokens(tmp_path: Path) -> None:
    """A token that nobody wants is not idle; a single job that waits needs only one."""
    case = Case(tmp_path)
    case.submit(1, "two")
    case.run(1, 4.0, 10.0, task="two")
    use = use_of(case.evidence(), "two", 0.0, 10.0)
    assert (use.used, round(use.available, 2)) == (0.0, 4.0)


def test_a_dead_workers_tokens_are_taken_out_for_a_lease_and_a_second(tmp_path: Path) -> None:
    """No longer, and only as many as it held."""
    case = Case(tmp_path)
    for number in range(1, 6):
        case.submit(number, "two")
    case.run(1, 0.0, None, task="two", pid=20)
    case.run(2, 0.0, 10.0, task="two", pid=21)
    case.happens("death", 4.0, pid=20, code=-9)
    use = use_of(case.evidence(), "two", 0.002, 10.0)
    assert (round(use.used, 2), round(use.available, 2), round(use.taken_out, 2)) == (14.0, 17.0, 3.0)


def test_a_restart_takes_out_all_tokens_until_a_lease_and_a_second_after_it(tmp_path: Path) -> None:
    """From its beginning on."""
    case = Case(tmp_path)
    for number in range(1, 6):
        case.submit(number, "two")
    case.run(1, 0.0, 20.0, task="two")
    case.run(2, 0.0, 20.0, task="two")
    case.happens("server", 4.0, until=5.0)
    use = use_of(case.evidence(), "two", 0.002, 10.0)
    assert (round(use.share, 3), round(use.available, 2), round(use.taken_out, 2)) == (1.0, 12.0, 8.0)


def test_the_append_only_file_is_read_in_the_order_of_its_parts(tmp_path: Path) -> None:
    """Redis 7 writes a folder of parts; the tenth comes after the ninth."""
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    for part in (9, 10):
        record = written(f"one:{part}-0", {"status": "succeeded", "value": str(part)})
        (folder / f"appendonly.aof.{part}.incr.aof").write_bytes(record)
    assert [outcome.value for outcome in aof.outcomes(tmp_path)] == ["9", "10"]


def test_what_the_server_forgot_is_not_lost(case: Case) -> None:
    """The end of its file was cut off, with a submit in it; a job of which it knows is lost all the same."""
    (case.folder / "appendonly.aof").write_bytes(
        b"snapshot" + command("SELECT", "0") + command("XADD", "flowq:{t}:s:one", "6-0", "d", "{}")
    )
    aof.cut_tail(case.folder, 1000, case.folder / "tail-1.bin")
    assert (case.folder / "appendonly.aof").read_bytes() == b"snapshot" + command("SELECT", "0")
    case.submit(6)
    case.submit(7)
    assert case.wrong() == {"lost": ["one:7-0 (number 7): stored, and no outcome is on record"]}


def test_what_a_rewritten_file_repeats_counts_once(tmp_path: Path) -> None:
    """Up to Redis 6.2 what was written during a rewrite is in the old file and in the new one; a double outcome stays one."""
    one, two, three = (written(f"one:{n}-0", {"status": "succeeded", "value": str(n)}) for n in (1, 2, 3))
    (tmp_path / "history-0000.aof").write_bytes(one + two)
    (tmp_path / "appendonly.aof").write_bytes(b"REDIS0009 not for us" + two + three + one)
    assert [outcome.value for outcome in aof.outcomes(tmp_path)] == ["1", "2", "3", "1"]


def test_a_file_with_two_names_is_read_once(tmp_path: Path) -> None:
    """It got its second name before a rewrite that never came to its end."""
    (tmp_path / "appendonly.aof").write_bytes(written("one:1-0", {"status": "succeeded", "value": "1"}))
    (tmp_path / "history-0000.aof").hardlink_to(tmp_path / "appendonly.aof")
    assert len(aof.outcomes(tmp_path)) == 1


def test_the_witness_knows_nothing_of_flowq() -> None:
    """Judging a run imports no module of the library."""
    code = (
        "import sys, tests.stress.evidence, tests.stress.verdict, tests.stress.report; "
        "print([name for name in sys.modules if name.partition('.')[0] == 'flowq'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"


def test_what_a_busy_machine_excuses(case: Case) -> None:
    """A worker that its supervisor killed for overrunning its lease ended by itself on a quiet machine, and is only counted on a busy
    one; so is nothing else.
    """
    case.happens("death", 50.0, pid=77, code=-9, how="its lease ended with 2 limited bodies in it")
    case.happens("death", 51.0, pid=78, code=1, how="")
    quiet = case.evidence()
    assert len(witness.unexpected_ends(quiet)) == 2
    assert [line.split()[1] for line in witness.unexpected_ends(attrs.evolve(quiet, busy=True))] == ["78"]
