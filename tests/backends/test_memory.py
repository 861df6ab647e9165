"""What only the memory backend has: a server that tests can break, clocks that step, threads, and an audit that sees faults."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio.testing

from flowq._errors import Unavailable
from flowq._model import JobStatus, Status, Submission, Want
from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.memory.rows import Pending
from flowq.backends.memory.state import State
from flowq.backends.protocol import MemberFacts, Standing
from flowq.testing.conformance.jobs import again, dead, done, job_id, policy, released, succeeded

FACTS = MemberFacts(host="here", pid=1, version="0", concurrency=10, backend="none")
HOUR = 3_600_000


class FakeClock:
    """Server time that a test sets, milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


class Fleet:
    """A server without any event loop, and members that call it directly."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.batches = 0
        self.server = MemoryServer(clock=self.clock, seed=1, audited=True)

    def join(self, limit: int | None = None, *, old: str | None = None) -> Standing:
        joined = self.server.join(FACTS, {"a": policy(limit)}, ttl=10, old=old)
        return Standing(joined.member, 1, joined.epoch, 0)

    def submit(self, count: int = 1, *, delay_ms: int = 0) -> list[str]:
        batch = [Submission("a", b'{"task":"a"}', delay_ms) for _ in range(count)]
        self.batches += 1
        return [r.job_id for r in self.server.submit(f"batch {self.batches}", batch)]

    def claim(self, me: Standing, room: int = 100, *, ring: bool = False) -> list[Any]:
        claimed = self.server.exchange(me, [], Want(room, 0, {}, ring)).claimed
        assert claimed is not None
        assert claimed.status is Status.OK
        return claimed.grants

    def pass_ms(self, ms: int, *living: Standing) -> None:
        """In steps as small as a fleet's calls are; the living renew."""
        for _ in range(ms // 1000):
            self.clock.ms += 1000
            for me in living:
                self.server.renew(me, 0)


# --- clocks ------------------------------------------------------------------------------------------------------------------


def test_a_forward_step_of_the_clock_expires_no_lease() -> None:
    """The lease clock moves by at most TTL / 6 a call, whatever the server's own clock does."""
    fleet = Fleet()
    me = fleet.join()
    fleet.submit()
    [grant] = fleet.claim(me)
    fleet.clock.ms += HOUR
    assert fleet.server.renew(me, 1).status is Status.OK
    assert fleet.server.exchange(me, [done(grant)], None).settled is not None


def test_a_backward_step_stalls_no_delay_and_no_lease() -> None:
    """Delays and leases run on clocks that never go back: after the step they go on from where they were."""
    fleet = Fleet()
    me, victim = fleet.join(), fleet.join()
    fleet.submit()
    fleet.claim(victim)
    job = fleet.submit(delay_ms=5000)
    fleet.clock.ms -= HOUR
    fleet.server.renew(me, 0)
    fleet.pass_ms(4000, me)
    assert fleet.server.promote() == pytest.approx(1.0)
    fleet.pass_ms(1000, me)
    assert fleet.server.promote() is None
    assert fleet.server.status(job[0]) is JobStatus.READY
    fleet.pass_ms(6000, me)
    assert fleet.server.renew(victim, 0).status is Status.LOST


def test_a_forward_step_makes_what_was_due_meanwhile_due() -> None:
    """A fleet that was down does not owe its delays afterwards."""
    fleet = Fleet()
    me = fleet.join()
    [job] = fleet.submit(delay_ms=HOUR)
    fleet.clock.ms += HOUR
    assert [job_id(grant) for grant in fleet.claim(me)] == [job]


def test_ids_grow_though_the_clock_steps_back() -> None:
    """An entry id is never given out twice, and order is by id."""
    fleet = Fleet()
    [first] = fleet.submit()
    fleet.clock.ms -= HOUR
    [second] = fleet.submit()
    assert first.rpartition("-")[0] == second.rpartition("-")[0]
    assert first != second


def test_a_batch_marker_and_a_record_end_with_their_time() -> None:
    """After two minutes a batch id may be used anew; a record is kept for its own time."""
    fleet = Fleet()
    me = fleet.join()
    batch = [Submission("a", b"{}")]
    [first] = fleet.server.submit("one", batch)
    fleet.server.exchange(me, [succeeded(grant, ttl_ms=1000) for grant in fleet.claim(me)], None)
    assert fleet.server.record(first.job_id) is not None
    fleet.clock.ms += 1000
    assert fleet.server.record(first.job_id) is None
    fleet.clock.ms += 119_000
    [second] = fleet.server.submit("one", batch)
    assert second.job_id != first.job_id


def test_without_a_clock_a_server_says_what_it_lacks() -> None:
    """A server that nobody opened in a loop and that was given no clock cannot know the time."""
    with pytest.raises(RuntimeError, match="clock="):
        MemoryServer().submit("one", [])


# --- a server that forgets ---------------------------------------------------------------------------------------------------


def test_failing_over_to_a_stale_replica_loses_the_tail_and_brings_back_what_was_settled() -> None:
    """Jobs after the backup are gone; a settled one is pending again, for a member that must hand it back (W4)."""
    fleet = Fleet()
    me = fleet.join(limit=1)
    [old] = fleet.submit()
    [grant] = fleet.claim(me)
    backup = fleet.server.backup()
    fleet.server.exchange(me, [done(grant)], None)
    fleet.clock.ms += 1
    [tail] = fleet.submit()
    fleet.server.restore(backup)
    assert fleet.server.status(tail) is JobStatus.UNKNOWN
    assert fleet.server.renew(me, 0).status is Status.EPOCH
    confirmed = fleet.server.confirm(me, [])
    me = Standing(me.member, 2, confirmed.epoch, 0)
    fleet.server.mine(me, [])
    assert fleet.claim(me) == [], "in quarantine"
    fleet.pass_ms(10_000, me)
    assert [(job_id(grant), grant.n) for grant in fleet.claim(me)] == [(old, 2)]


def test_a_backup_is_not_touched_by_what_happens_later() -> None:
    """It may be restored again and again, each time under another epoch."""
    fleet = Fleet()
    fleet.submit(3)
    backup = fleet.server.backup()
    epochs = set()
    for _ in range(2):
        fleet.server.restore(backup)
        me = fleet.join()
        epochs.add(me.epoch)
        assert len(fleet.claim(me)) == 3
    assert len(epochs) == 2


@pytest.mark.anyio
async def test_forgetting_breaks_the_connections() -> None:
    """The generation of every client goes up: confirm, then ``mine``, before anything else."""
    server = MemoryServer()
    async with open_memory(server) as one, open_memory(server) as two:
        before = one.generation
        server.forget()
        assert one.generation == two.generation == before + 1


# --- what it shows -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_counts_where_jobs_are() -> None:
    """Per lane: ready, in flight by owner, handed back, delayed, dead; and the limit in force."""
    fleet = Fleet()
    me = fleet.join(limit=4)
    fleet.submit(6)
    grants = fleet.claim(me, 4)
    fleet.server.exchange(
        me, [done(grants[0]), released(grants[1]), dead(grants[2]), again(grants[3], delay=5)], None
    )
    fleet.claim(me, 2)
    counts = fleet.server.snapshot()["a"]
    assert (counts.ready, counts.delayed, counts.dead, counts.limit) == (1, 1, 1, 4)
    assert counts.pending == {me.member: 2}
    assert counts.outstanding == 4
    [letter] = fleet.server.dead_letters
    assert (letter.lane, letter.entry, letter.kind) == ("a", grants[2].entry, "error")
    assert letter.envelope == grants[2].raw


def test_a_seed_repeats_ids_and_epochs() -> None:
    """So that a simulation can be run again."""
    assert Fleet().join() == Fleet().join()


def test_a_capped_member_rings_once_for_a_hungry_one() -> None:
    """Woken by a ring for the hungry, it passes it on; again and again would be a storm while the hungry one is dead."""
    fleet = Fleet()
    greedy, hungry = fleet.join(limit=2), fleet.join(limit=2)
    fleet.submit(9)
    [first, _] = fleet.claim(greedy)
    assert fleet.claim(hungry) == []
    fleet.server.exchange(greedy, [done(first)], None)
    bell = next(iter(fleet.server._bells.values()))
    for rings in (1, 0, 0):
        bell.rings = 0
        assert fleet.claim(greedy, ring=True) == []
        assert bell.rings == rings
    assert len(fleet.claim(hungry, 1)) == 1


def twice_in_flight(state: State) -> None:
    lane = state.lanes["a"]
    lane.unread[next(iter(lane.pending))] = b"{}"


def over_the_limit(state: State) -> None:
    lane = state.lanes["a"]
    for entry in list(lane.unread):
        lane.read(next(iter(lane.owned)), state.fence)
        state.fence += 1
        assert entry in lane.pending


def owned_by_a_stranger(state: State) -> None:
    lane = state.lanes["a"]
    lane.hand(next(iter(lane.pending)), "stranger")


def miscounted(state: State) -> None:
    state.lanes["a"].owned["-"] = 1


def never_delivered(state: State) -> None:
    next(iter(state.lanes["a"].pending.values())).n = 0


def one_fence_twice(state: State) -> None:
    lane = state.lanes["a"]
    first = next(iter(lane.pending.values()))
    lane.pending["9-9"] = Pending(b"{}", first.owner, 1, first.fence)
    lane.owned[first.owner] += 1


def fence_from_the_future(state: State) -> None:
    next(iter(state.lanes["a"].pending.values())).fence = state.fence + 1


def ended_but_in_flight(state: State) -> None:
    lane = state.lanes["a"]
    state.records[f"a:{next(iter(lane.pending))}"] = (b"{}", state.clock.waiting + HOUR)


def key_of_nobody(state: State) -> None:
    state.keys["a:k"] = "a:1-1"


def moved_but_gone(state: State) -> None:
    state.moved["a:1-1"] = ("a", "1-2")


def in_two_places(state: State) -> None:
    lane = state.lanes["a"]
    state.postpone(f"a:{next(iter(lane.pending))}", "a", b"{}", 1000)


def not_found_under_its_id(state: State) -> None:
    state.lanes["a"].unread["9-9"] = b'{"id":"a:d1-1"}'


def cancelled_but_gone(state: State) -> None:
    state.cancels["a", "1-1"] = state.cancels.popitem()[1]


def dead_but_in_its_pool(state: State) -> None:
    next(iter(state.members.values())).expired = True


def unlimited_by_mistake(state: State) -> None:
    state.lanes["a"].ceiling = None


def crashes_of_nothing(state: State) -> None:
    state.lanes["a"].crashes["1-1"] = 1


FAULTS: list[Callable[[State], None]] = [
    twice_in_flight,
    over_the_limit,
    owned_by_a_stranger,
    miscounted,
    never_delivered,
    one_fence_twice,
    fence_from_the_future,
    ended_but_in_flight,
    key_of_nobody,
    moved_but_gone,
    in_two_places,
    not_found_under_its_id,
    cancelled_but_gone,
    dead_but_in_its_pool,
    unlimited_by_mistake,
    crashes_of_nothing,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_audit_sees(fault: Callable[[State], None]) -> None:
    """Every invariant that ``check`` speaks of is really looked at: it finds each of these faults."""
    fleet = Fleet()
    me = fleet.join(limit=2)
    fleet.submit(5)
    grants = fleet.claim(me)
    fleet.server.cancel(job_id(grants[0]), "stop", b"{}", 1000)
    fleet.server.check()
    fault(fleet.server._state)
    with pytest.raises(AssertionError, match=r"."):
        fleet.server.check()


# --- as a backend in an event loop -------------------------------------------------------------------------------------------


async def test_a_cancelled_call_has_done_nothing() -> None:
    """The checkpoint comes first."""
    server = MemoryServer()
    async with open_memory(server) as backend:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await backend.stream.submit("one", [Submission("a", b"{}")])
        assert scope.cancelled_caught
        assert server.snapshot() == {}


async def test_a_closed_client_says_so() -> None:
    """Also its renewer, and only this client."""
    server = MemoryServer()
    async with open_memory(server) as other:
        async with open_memory(server) as backend:
            renewer = backend.fleet.renewer()
            backend.fleet.on_control(lambda: None)
        with pytest.raises(Unavailable, match="closed"):
            await backend.timers.promote()
        with pytest.raises(Unavailable, match="closed"):
            renewer.renew(Standing("m", 1, "", 0), 0)
        renewer.close()
        await other.fleet.set_limit("a", 1)


async def test_a_stranger_waits_in_vain() -> None:
    """Nobody rings for one who is no member; it waits its time out rather than spin."""
    server = MemoryServer()
    async with open_memory(server) as backend:
        start = anyio.current_time()
        assert not await backend.stream.wait_ring(Standing("nobody", 1, "", 0), 0.05)
        assert anyio.current_time() - start >= 0.05


async def test_a_ring_that_its_hearer_was_cancelled_with_wakes_the_next() -> None:
    """Cancelled in the very moment in which it was rung for: the ring is passed on."""
    server = MemoryServer()
    async with open_memory(server) as backend:
        joined = [await backend.fleet.join(FACTS, {"a": policy()}, ttl=10) for _ in range(2)]
        one, two = (Standing(j.member, 1, j.epoch, 0) for j in joined)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tg:
                scope = anyio.CancelScope()

                async def doomed() -> None:
                    with scope:
                        await backend.stream.wait_ring(one, 10)

                tg.start_soon(doomed)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                server.submit("one", [Submission("a", b"{}")])
                assert await backend.stream.wait_ring(two, 10)


async def test_the_keeper_may_renew_from_its_thread() -> None:
    """A lease is kept alive by a thread, beside a loop."""
    server = MemoryServer()
    async with open_memory(server) as backend:
        joined = await backend.fleet.join(FACTS, {"a": policy()}, ttl=10)
        renewer = backend.fleet.renewer()
        me = Standing(joined.member, 1, joined.epoch, 0)
        renewed = await anyio.to_thread.run_sync(functools.partial(renewer.renew, me, 3))
        assert renewed.status is Status.OK


async def test_another_threads_loop_wakes_those_who_wait_here() -> None:
    """A producer in a thread of its own rings, ends jobs and cancels; waiters of this loop are told in this loop."""
    server = MemoryServer()
    here = threading.get_ident()
    hinted: list[int] = []

    async def elsewhere(job: str) -> None:
        async with open_memory(server) as backend:
            await backend.stream.submit("two", [Submission("a", b"{}")])
            await backend.results.cancel(job, "", b'{"status":"cancelled"}', 1000)
            await backend.fleet.pause("a", True)

    async with open_memory(server) as backend:
        backend.fleet.on_control(lambda: hinted.append(threading.get_ident()))
        joined = await backend.fleet.join(FACTS, {"a": policy()}, ttl=10)
        me = Standing(joined.member, 1, joined.epoch, 0)
        [receipt] = await backend.stream.submit("one", [Submission("b", b"{}")])
        found: list[object] = []

        async def listen() -> None:
            found.append(await backend.stream.wait_ring(me, 10))

        async def wait() -> None:
            record = await backend.results.wait(receipt.job_id, 10)
            found.append(record is not None and record.status)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tg:
                tg.start_soon(listen)
                tg.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(anyio.run, elsewhere, receipt.job_id)
        await anyio.sleep(0.01)
        assert sorted(map(str, found)) == ["True", "cancelled"]
        assert hinted == [here]


@pytest.fixture
def virtual() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class TestUnderAVirtualClock:
    """Hours pass in no time."""

    @pytest.fixture
    def anyio_backend(self, virtual: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return virtual

    async def test_the_server_follows_the_loops_clock(self) -> None:
        """A delay of a day, waited for by a worker that sleeps as long as it is told."""
        server = MemoryServer(audited=True)
        async with open_memory(server) as backend:
            joined = await backend.fleet.join(FACTS, {"a": policy()}, ttl=10)
            me = Standing(joined.member, 1, joined.epoch, 0)
            [receipt] = await backend.stream.submit("one", [Submission("a", b"{}", delay_ms=24 * HOUR)])
            seconds = await backend.timers.promote()
            assert seconds is not None
            assert seconds == pytest.approx(24 * 3600, abs=1)
            await anyio.sleep(seconds)
            assert await backend.timers.promote() is None
            assert server.status(receipt.job_id) is JobStatus.READY
            assert backend.fleet.renewer().renew(me, 0).status is Status.OK, "two calls: two steps at most"
