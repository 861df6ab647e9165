"""The small rules of ``flowq._core`` for all numbers: tokens, deadlines, batches, work ahead, outcomes; and clocks, due times and
crash budgets as the memory backend keeps them.

Codec, retries and verdicts, and the lease have files of their own; ``test_every_room_has_a_property`` looks that none is without.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st

from flowq._codec import Call, decode_record
from flowq._core.batch import MOST_BYTES, MOST_OUTCOMES, how_many, weight
from flowq._core.deadlines import NEVER, earliest, expired
from flowq._core.limit import is_excess, tokens
from flowq._core.outcome import MOST_LINE, MOST_TEXT, Failure, Job, ended, to_outcome
from flowq._core.outlook import Reading, limit_changes, step
from flowq._core.prefetch import (
    HORIZON,
    MOST_AHEAD,
    REST,
    SPREAD,
    Load,
    Outlook,
    Pace,
    is_worth_a_claim,
    look_ahead,
    share_ahead,
)
from flowq._core.reach import Reach
from flowq._core.verdict import Bury, EndCancelled, Forget, GiveBack, RunAgain, Verdict
from flowq._fleet import Survey
from flowq._model import (
    Again,
    Cancelled,
    Dead,
    Delivery,
    Ended,
    Outcome,
    Released,
    Submission,
    Succeeded,
    Want,
)
from flowq.backends.memory import MemoryServer
from flowq.backends.memory.clock import Clock
from flowq.backends.protocol import MemberFacts, Standing
from flowq.testing.conformance.jobs import done, policy, released

HERE = Path(__file__).parent
ROOMS = HERE.parent / "flowq" / "_core"

counts = st.integers(0, 2000)
seconds = st.floats(0, 1e6)

# --- limit


@given(counts, counts)
def test_local_tokens_never_pass_the_limit(outstanding: int, limit: int) -> None:
    """Nor what was granted; and a grant is excess exactly when it would leave more outstanding than there are tokens."""
    assert 0 <= tokens(outstanding, limit) <= min(outstanding, limit)
    assert is_excess(outstanding, limit) == (outstanding + 1 > limit)
    assert is_excess(outstanding, limit) == (tokens(outstanding + 1, limit) < outstanding + 1)


@given(counts, counts, counts)
def test_a_lower_limit_gives_no_more_tokens(outstanding: int, one: int, other: int) -> None:
    """Monotone in the limit, and whatever is excess stays so under a lower one."""
    low, high = sorted((one, other))
    assert tokens(outstanding, low) <= tokens(outstanding, high)
    assert is_excess(outstanding, low) or not is_excess(outstanding, high)


# --- deadlines


@attrs.define
class Row:
    deadline: float


rows = st.lists(st.builds(Row, st.one_of(seconds, st.just(NEVER))), max_size=20)


@given(rows, seconds)
def test_the_table_wakes_in_time_and_not_for_nothing(table: list[Row], now: float) -> None:
    """Somebody is out of time if and only if the earliest deadline has come; who waits until then finds at least one."""
    next_one = earliest(table)
    late = expired(table, now)
    assert bool(late) == (next_one <= now)
    assert all(row.deadline <= now for row in late)
    assert all(row.deadline > now for row in table if row not in late)
    if next_one < NEVER:
        assert expired(table, next_one)


# --- batch

sizes = st.one_of(st.integers(0, 100), st.integers(0, 2 * MOST_BYTES))


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    size = draw(sizes)
    match draw(st.integers(0, 5)):
        case 0:
            return Succeeded(None, 0)
        case 1:
            return Succeeded(bytes(size), 0)
        case 2:
            return Again(bytes(size), 0, "error")
        case 3:
            return Dead("error", "", bytes(size // 2), 0, bytes(size - size // 2))
        case 4:
            return Cancelled(bytes(size), 0)
        case _:
            return Released()


@st.composite
def batches(draw: st.DrawFn) -> list[Ended]:
    some = draw(st.lists(outcomes(), max_size=12))
    many = draw(st.sampled_from([1, 1, 1, 60]))
    return [Ended(Delivery("l", "1-1", 1, "e", 1, 0, b""), outcome, "l:1-1") for outcome in some * many]


@given(batches())
def test_a_settle_is_bounded_and_everything_is_sent(ends: list[Ended]) -> None:
    """Never too many outcomes or bytes, but for a single one that is too large; no fewer than fit; and it comes to an end."""
    left = ends
    while left:
        n = how_many(left)
        assert 1 <= n <= min(len(left), MOST_OUTCOMES)
        size = sum(weight(e.outcome) for e in left[:n])
        assert size <= MOST_BYTES or n == 1
        fits = n < min(len(left), MOST_OUTCOMES) and size + weight(left[n].outcome) <= MOST_BYTES
        assert not fits
        left = left[n:]
    assert how_many([]) == 0


# --- reach

loads = st.builds(Load, st.integers(1, 2000), counts, counts)
looks = st.tuples(counts, st.floats(0.002, 100), loads)


@given(st.lists(looks, max_size=30), st.integers(1, 2000), counts)
def test_a_reach_never_stops_a_worker(seen: list[tuple[int, float, Load]], room: int, waiting: int) -> None:
    """Whatever was seen: who has room asks, for no more than it has; and when all that is granted starts, for all of it soon."""
    reach = Reach()
    for bodies, took, load in seen:
        reach.add(bodies, took, load)
        assert 1 <= reach.part_of(room, waiting) <= room
    for _ in range(11):
        reach.add(0, 0.002, Load(2000, 0, 0))
    assert reach.part_of(room, 0) == room


# --- prefetch

loads = st.builds(Load, st.integers(1, 2000), counts, counts)
averages = st.dictionaries(st.text(max_size=3), st.floats(0, 100), min_size=1, max_size=6)
bodies = st.lists(st.tuples(st.floats(0, 100), st.floats(1e-6, 100)), max_size=50)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), min_size=1, max_size=20), seconds)
def test_a_pace_is_an_average_of_what_was_measured(samples: list[tuple[int, float]], begin: float) -> None:
    """It lies between the shortest and the longest body; after a wrong guess nothing is guessed for a while."""
    pace, now = Pace(), begin
    for ended_bodies, spent in samples:
        pace.add(ended_bodies, spent, now)
        assert pace.is_usable(now)
        now += 0.01
    means = [spent / n for n, spent in samples]
    slack = 1e-9 * max(means)
    assert min(means) - slack <= pace.seconds <= max(means) + slack
    pace.was_wrong(now)
    assert not pace.is_usable(now)
    pace.add(1, 0.001, now)
    assert not pace.is_usable(now + REST / 2)
    pace.add(1, 0.001, pace.rests_until)
    assert pace.is_usable(pace.rests_until)


@given(bodies)
def test_no_more_bodies_end_than_run(running: list[tuple[float, float]]) -> None:
    """And each frees a consumer for at most the horizon."""
    outlook = look_ahead(running)
    assert 0 <= outlook.ending <= len(running)
    assert 0 <= outlook.slack <= outlook.ending * HORIZON + 1e-9


@given(averages, st.builds(Outlook, st.integers(0, 2000), st.floats(0, 40)), loads)
def test_work_ahead_is_bounded_and_never_for_nothing(
    lanes: dict[str, float], outlook: Outlook, load: Load
) -> None:
    """All lanes together get at most what the worker may hold ahead; each that is named gets something; none that is unknown."""
    shares = share_ahead(lanes, outlook, load)
    assert set(shares) <= set(lanes)
    assert all(n > 0 for n in shares.values())
    assert sum(sorted(shares.values())[-SPREAD:]) <= max(MOST_AHEAD, load.consumers)


@given(averages, st.builds(Outlook, st.integers(0, 2000), st.floats(0, 40)), loads, counts)
def test_what_waits_is_taken_off(lanes: dict[str, float], outlook: Outlook, load: Load, more: int) -> None:
    """A worker that has more waiting asks for no more ahead: a queue in it does not feed itself."""
    fuller = attrs.evolve(load, waiting=load.waiting + more)
    before, after = share_ahead(lanes, outlook, load), share_ahead(lanes, outlook, fuller)
    assert all(after.get(lane, 0) <= before.get(lane, 0) for lane in lanes)


@given(loads, counts)
def test_free_consumers_are_never_left_waiting(load: Load, extra: int) -> None:
    """Room is worth a claim at once; without it, an empty handful is worth none."""
    assert 0 <= load.room <= load.consumers
    assert is_worth_a_claim(load, extra) or not load.room
    assert load.room or not is_worth_a_claim(load, 0)


# --- outcome

texts = st.one_of(
    st.text(st.characters(codec=None), max_size=50),  # lone surrogates, too: a file name may hold one
    st.text(min_size=MOST_LINE - 1, max_size=MOST_LINE + 50),
    st.text(max_size=3).map(lambda t: t * (MOST_TEXT // 2)),
)
failures = st.builds(Failure, texts, texts, texts)
waits = st.floats(0, 1e7)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    st.builds(RunAgain, waits, st.sampled_from(["error", "timeout", "asked", "skew"]), st.booleans()),
    st.builds(Bury, st.sampled_from(["error", "timeout", "rejected", "skew"]), texts),
    st.sampled_from([EndCancelled(), GiveBack(), Forget()]),
)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    entry = draw(st.builds("{}-{}".format, st.integers(0, 2**48), st.integers(0, 9)))
    call = Call(
        attempt=draw(st.integers(1, 2000)),
        id=draw(st.sampled_from(["", "t:d1-1"])),
        key=draw(st.sampled_from(["", "k"])),
        enqueued_at=draw(st.integers(0, 2**48)),
    )
    fields: dict[str, Any] = {"v": 1, "task": "t", "args": [], "kwargs": {}, "attempt": call.attempt, "x": 1}
    fields |= {name: value for name, value in (("id", call.id), ("key", call.key)) if value}
    return Job(Delivery("t", entry, 1, "e", 1, 0, json.dumps(fields).encode()), call)


@given(verdicts, jobs(), failures, st.floats(0, 1e7), texts)
def test_each_verdict_has_its_outcome_and_every_outcome_can_be_sent(
    verdict: Verdict, job: Job, failure: Failure, ttl: float, note: str
) -> None:
    """Nothing that a body raises can stop its job's end from being written; texts are cut; the attempt counts if the verdict says so."""
    outcome = to_outcome(verdict, job, failure, failure_ttl=ttl, cancel_note=note)
    match verdict:
        case Forget():
            assert outcome is None
            return
        case RunAgain():
            assert isinstance(outcome, Again)
            fields = json.loads(outcome.envelope)
            assert fields["attempt"] == job.call.attempt + verdict.counts
            assert fields["id"] == job.id
            assert fields["x"] == 1
            assert abs(outcome.delay_ms - verdict.delay * 1000) <= 0.5
        case Bury():
            assert isinstance(outcome, Dead)
            outcome.reason.encode()
            record = decode_record(outcome.record)
            assert record.status == "dead"
            detail = json.loads(outcome.detail)
            assert len(detail["traceback"].encode()) <= 10 * MOST_TEXT
            assert detail["attempts"] == job.call.attempt
        case EndCancelled():
            assert isinstance(outcome, Cancelled)
            assert decode_record(outcome.record).status == "cancelled"
        case _:
            assert outcome == Released()
    assert outcome is not None
    end = ended(job, outcome)
    assert end.moved == bool(job.call.id)
    assert end.key == ("t:k" if job.call.key else "")
    assert job.age >= 0


# --- clocks, due times, crash budgets

steps = st.lists(st.integers(-(10**7), 10**7), max_size=30)


@given(st.integers(0, 2**41), steps, st.integers(1, 10_000))
def test_no_step_of_the_servers_clock_ends_a_lease_or_stalls_a_delay(
    start: int, jumps: list[int], most: int
) -> None:
    """The lease clock moves by at most one step a call, both never back, and the waiting clock by all that went forward."""
    clock, now, forward = Clock(), start, 0
    clock.tick(start, most)
    for jump in jumps:
        lease, waiting = clock.lease, clock.waiting
        now += jump
        forward += max(0, jump)
        clock.tick(now, most)
        assert 0 <= clock.lease - lease <= most
        assert clock.waiting - waiting == max(0, jump)
        assert clock.lease - lease <= clock.waiting - waiting
    assert clock.waiting == start + forward


@given(
    st.lists(st.integers(0, 20_000), min_size=1, max_size=15),
    st.lists(st.integers(-3_000, 6_000), min_size=1, max_size=25),
)
def test_a_delay_runs_when_due_and_not_before(delays: list[int], jumps: list[int]) -> None:
    """At each look exactly those are due whose wait has gone by on the waiting clock, and what is said of the next one is true."""
    now = [1_700_000_000_000]
    server = MemoryServer(clock=lambda: now[0], seed=1, audited=True)
    server.submit("b", [Submission("a", b'{"n":%d}' % i, delay) for i, delay in enumerate(delays)])
    waited = 0
    for jump in jumps:
        now[0] += jump
        waited += max(0, jump)
        due_in = server.promote()
        counts = server.snapshot()["a"]
        assert counts.ready == sum(delay <= waited for delay in delays)
        assert counts.delayed == len(delays) - counts.ready
        left = [delay - waited for delay in delays if delay > waited]
        assert due_in == (min(left) / 1000 if left else None)


@given(st.integers(1, 5), st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_job_has_its_crashes_and_no_more(most: int, fates: list[bool]) -> None:
    """Each worker that dies with it costs one, handing it back costs nothing; at ``max_crashes`` it is a dead letter, never started again."""
    now = [1_700_000_000_000]
    server = MemoryServer(clock=lambda: now[0], seed=1, audited=True)
    facts = MemberFacts(host="h", pid=1, version="0", concurrency=1, backend="none")
    lanes = {"a": policy(max_crashes=most)}
    [receipt] = server.submit("b", [Submission("a", b'{"args":[]}')])
    crashes = 0
    for dies in [*fates, False]:
        joined = server.join(facts, lanes, ttl=1.0)
        me = Standing(joined.member, 1, joined.epoch, 0)
        claimed = server.exchange(me, [], Want(1, 0, {})).claimed
        assert claimed is not None
        if crashes == most:
            assert not claimed.grants
            assert [letter.job_id for letter in server.dead_letters] == [receipt.job_id]
            return
        [grant] = claimed.grants
        assert grant.crashes == crashes
        if dies:
            crashes += 1
            for _ in range(10):
                now[0] += 150
                server.snapshot()
        else:
            server.exchange(me, [released(grant)], None)
            server.leave(me)
    joined = server.join(facts, lanes, ttl=1.0)
    me = Standing(joined.member, 1, joined.epoch, 0)
    claimed = server.exchange(me, [], Want(1, 0, {})).claimed
    assert claimed is not None
    assume(claimed.grants)
    server.exchange(me, [done(grant) for grant in claimed.grants], None)
    assert not server.dead_letters


# --- none is without


def used_in_properties(path: Path) -> set[str]:
    """The rooms of ``flowq._core`` whose names a property in this file uses: a function under ``@given``, or a state machine."""
    tree = ast.parse(path.read_text())
    room_of: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowq._core."):
            room_of |= {
                alias.asname or alias.name: (node.module or "").rpartition(".")[2] for alias in node.names
            }
    found: set[str] = set()
    for node in tree.body:
        given_one = isinstance(node, ast.FunctionDef) and any(
            "given" in ast.dump(d) for d in node.decorator_list
        )
        machine = isinstance(node, ast.ClassDef) and any("StateMachine" in ast.dump(b) for b in node.bases)
        if given_one or machine:
            found |= {room_of[n.id] for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in room_of}
    return found


# --- outlook

delays = st.floats(0, 30)


@given(seconds, delays, delays, delays, st.floats(-1e5, 1e5))
def test_a_step_of_the_clock_is_told_as_far_as_answers_cannot_explain_it(
    offset: float, first: float, second: float, at: float, stepped: float
) -> None:
    """However late the answers come: a clock that went on says nothing, and a step that is told errs by no more than they took."""
    took = first + second
    before = Reading.of(at + offset, at, at + first)
    steady = Reading.of(at + 60 + offset, at + 60, at + 60 + second)
    assert step(before, steady) == 0.0
    told = step(before, Reading.of(at + 60 + offset + stepped, at + 60, at + 60 + second))
    if abs(stepped) > took + 1.01:
        assert told
    if told:
        assert abs(told - stepped) <= took / 2 + 1e-3


limits = st.dictionaries(st.sampled_from("abc"), st.integers(0, 5))


@given(limits, limits)
def test_the_changes_of_limits_lead_from_one_look_to_the_next(
    old: dict[str, int], new: dict[str, int]
) -> None:
    """Applied to the first look they give the second; each is a change."""
    changes = list(
        limit_changes(*(Survey(True, None, None, 0, rows, {}, frozenset()) for rows in (old, new)))
    )
    assert all(change.before != change.after for change in changes)
    found: dict[str, int | None] = {**old, **{change.lane: change.after for change in changes}}
    assert {lane: limit for lane, limit in found.items() if limit is not None} == new


def test_every_room_has_a_property() -> None:
    """Each module of ``flowq._core`` is used by at least one property: examples say what was thought of, these what was not."""
    rooms = {path.stem for path in ROOMS.glob("*.py")} - {"__init__"}
    tried = {room for path in HERE.glob("test_*.py") for room in used_in_properties(path)}
    assert rooms - tried == set()
