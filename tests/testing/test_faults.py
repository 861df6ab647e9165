"""A backend behind a bad line: what each fault does, seen from both ends."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import anyio
import pytest

from flowq._errors import OutcomeUnknown, Unavailable
from flowq._model import JobStatus, Status, Submission, Want
from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.protocol import Backend, MemberFacts, Standing
from flowq.testing.conformance.jobs import policy
from flowq.testing.faults import (
    Call,
    Delay,
    Dice,
    DropReply,
    DropRequest,
    Fault,
    Faulty,
    Freeze,
    Late,
    Outage,
    Script,
)

FACTS = MemberFacts(host="here", pid=1, version="0", concurrency=10, backend="none")
JOB = [Submission("a", b"{}")]


@pytest.fixture
async def place(anyio_backend: str) -> AsyncIterator[tuple[MemoryServer, Backend]]:
    """A server and one healthy client of it."""
    server = MemoryServer()
    async with open_memory(server) as backend:
        yield server, backend


def faulty(backend: Backend, *faults: tuple[str, int, Fault]) -> Faulty:
    return Faulty(backend, Script({(name, number): fault for name, number, fault in faults}))


def ready(server: MemoryServer) -> int:
    counts = server.snapshot().get("a")
    return counts.ready if counts is not None else 0


async def test_a_dropped_request_has_done_nothing(place: tuple[MemoryServer, Backend]) -> None:
    """But its sender cannot know that; the connection is a new one afterwards."""
    server, backend = place
    line = faulty(backend, ("submit", 1, DropRequest()))
    with pytest.raises(OutcomeUnknown, match="submit"):
        await line.stream.submit("one", JOB)
    assert ready(server) == 0
    assert line.generation == backend.generation + 1
    await line.stream.submit("one", JOB)
    assert ready(server) == 1


async def test_a_dropped_reply_has_done_it(place: tuple[MemoryServer, Backend]) -> None:
    """Applied, but not heard; sending the batch again is safe."""
    server, backend = place
    line = faulty(backend, ("submit", 2, DropReply()))
    await line.stream.submit("one", JOB)
    with pytest.raises(OutcomeUnknown):
        await line.stream.submit("two", JOB)
    assert ready(server) == 2
    assert line.generation == backend.generation + 1
    await line.stream.submit("two", JOB)
    assert ready(server) == 2


async def test_a_late_claim_reaches_a_server_that_knows_a_newer_session(
    place: tuple[MemoryServer, Backend],
) -> None:
    """W5: a claim in limbo, the connection broke, ``mine`` began another session: the claim finds itself stale."""
    server, backend = place
    line = faulty(backend, ("exchange", 1, Late(1)))
    joined = await line.fleet.join(FACTS, {"a": policy()}, ttl=10)
    await line.stream.submit("one", JOB)
    with pytest.raises(OutcomeUnknown):
        await line.stream.exchange(Standing(joined.member, 1, joined.epoch, 0), [], Want(5, 0, {}))
    me = Standing(joined.member, 2, joined.epoch, 0)
    await line.stream.mine(me, [])
    assert ready(server) == 1
    exchanged = await line.stream.exchange(me, [], Want(5, 0, {}))
    assert exchanged.claimed is not None
    assert len(exchanged.claimed.grants) == 1, "the stale one took nothing"


async def test_what_is_late_can_be_delivered_at_the_end(place: tuple[MemoryServer, Backend]) -> None:
    """It is done exactly once, and its refusals reach nobody."""
    server, backend = place
    line = faulty(backend, ("submit", 1, Late(5)), ("join", 1, Late(5)))
    with pytest.raises(OutcomeUnknown):
        await line.stream.submit("one", JOB)
    with pytest.raises(OutcomeUnknown):
        await line.fleet.join(FACTS, {"a": policy()}, ttl=10)
    await backend.fleet.join(FACTS, {"a": policy()}, ttl=20)
    assert ready(server) == 0
    await line.line.deliver_late()
    assert ready(server) == 1
    await line.line.deliver_late()
    assert ready(server) == 1


async def test_a_delay_takes_time_on_both_ways(place: tuple[MemoryServer, Backend]) -> None:
    """Seconds there and back; the outcome is as ever."""
    server, backend = place
    line = faulty(backend, ("submit", 1, Delay(0.02, 0.02)))
    start = anyio.current_time()
    await line.stream.submit("one", JOB)
    assert anyio.current_time() - start >= 0.04
    assert ready(server) == 1
    assert line.generation == backend.generation


async def test_an_outage_ends(place: tuple[MemoryServer, Backend]) -> None:
    """Until then every call, the renewal too, is surely not done; ``wait_up`` waits for its end."""
    server, backend = place
    line = faulty(backend, ("promote", 1, Outage(0.05)))
    renewer = line.fleet.renewer()
    with pytest.raises(Unavailable):
        await line.timers.promote()
    with pytest.raises(Unavailable):
        await line.stream.submit("one", JOB)
    with pytest.raises(Unavailable):
        renewer.renew(Standing("m", 1, "", 0), 0)
    assert line.generation == backend.generation + 1
    await line.wait_up()
    await line.stream.submit("one", JOB)
    assert renewer.renew(Standing("m", 1, "", 0), 0).status is Status.LOST
    renewer.close()
    assert ready(server) == 1


async def test_a_cut_ends_what_is_under_way(place: tuple[MemoryServer, Backend]) -> None:
    """By hand: a waiting call ends in ``OutcomeUnknown``, a later one is ``Unavailable``, and mending heals all."""
    _, backend = place
    line = faulty(backend)
    [receipt] = await line.stream.submit("one", JOB)
    ends: list[str] = []

    async def wait() -> None:
        try:
            await line.results.wait(receipt.job_id, None)
        except OutcomeUnknown:
            ends.append("cut")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            line.line.cut()
        assert ends == ["cut"]
        with pytest.raises(Unavailable):
            await line.results.status(receipt.job_id)
        line.line.mend()
        await line.wait_up()
        assert await line.results.status(receipt.job_id) is JobStatus.READY


async def test_a_frozen_line_stands_still_and_breaks_nothing(place: tuple[MemoryServer, Backend]) -> None:
    """Calls begin when it is over; the renewer, which cannot wait, hears nothing in time."""
    server, backend = place
    line = faulty(backend, ("submit", 1, Freeze(60)))
    renewer = line.fleet.renewer()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(line.stream.submit, "one", JOB)
            await anyio.wait_all_tasks_blocked()
            assert ready(server) == 0
            with pytest.raises(OutcomeUnknown):
                renewer.renew(Standing("m", 1, "", 0), 0)
            line.line.mend()
    assert ready(server) == 1
    assert line.generation == backend.generation


async def test_the_renewers_faults(place: tuple[MemoryServer, Backend]) -> None:
    """Dropped: not renewed. Reply dropped: renewed, but not heard. Outage and freeze: as for all others."""
    _, backend = place
    line = faulty(
        backend,
        ("renew", 1, DropRequest()),
        ("renew", 2, DropReply()),
        ("renew", 3, Delay(9, 9)),
        ("renew", 4, Freeze(0.01)),
        ("renew", 5, Outage(0.01)),
    )
    joined = await line.fleet.join(FACTS, {"a": policy()}, ttl=10)
    me = Standing(joined.member, 1, joined.epoch, 0)
    renewer = line.fleet.renewer()
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            renewer.renew(me, 0)
    assert renewer.renew(me, 0).status is Status.OK
    with pytest.raises(OutcomeUnknown):
        renewer.renew(me, 0)
    await line.wait_up()
    with pytest.raises(Unavailable):
        renewer.renew(me, 0)
    assert [call.number for call, _ in line.line.happened] == [1, 2, 3, 4, 5]


async def test_hints_over_a_line_that_is_down_are_lost(place: tuple[MemoryServer, Backend]) -> None:
    """``on_control`` is a hint: who cannot be reached does not hear it."""
    _, backend = place
    line = faulty(backend)
    hints: list[int] = []
    line.fleet.on_control(lambda: hints.append(1))
    await line.fleet.pause("a", True)
    line.line.cut()
    await backend.fleet.pause("a", False)
    assert hints == [1]


def test_dice_are_repeatable() -> None:
    """The same seed makes the same faults; the probability is kept roughly."""
    faults: list[Fault] = [DropReply(), DropRequest()]
    one, two = (Dice(random.Random(7), 0.25, faults) for _ in range(2))
    calls = [Call("exchange", i) for i in range(400)]
    thrown = [one.fault(call) for call in calls]
    assert thrown == [two.fault(call) for call in calls]
    assert 50 < sum(fault is not None for fault in thrown) < 150
