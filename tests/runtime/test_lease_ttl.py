"""The fleet's lease TTL changes while workers run, in virtual time. From 10 s (deadline 6.5 s) to 40 s (26 s) or 2 s (1.3 s)."""

from __future__ import annotations

import anyio
import pytest

import flowq
from flowq._runtime.worker import Worker
from tests.runtime.conftest import Stage, StageApp, eventually, virtually
from tests.runtime.test_lease import Diary, build

pytestmark = virtually


def trusted(worker: Worker) -> float:
    """Seconds for which this worker trusts a renewal."""
    return worker._crew.floor.lease.times.trusted  # pyright: ignore[reportPrivateUsage] - no other way to see it


async def is_open(stage: Stage, ttl: float) -> None:
    await eventually(lambda: stage.server.change_ttl(ttl).is_open)


async def outage(app: StageApp, seconds: float) -> None:
    app.lines[-1].cut(seconds)
    await anyio.sleep(seconds + 3)


async def test_a_raised_ttl_is_trusted_when_all_workers_have_it(stage: Stage) -> None:
    """Old and new workers together live by the shorter lease; the last old one's end makes it the longer one, 40 s after the command."""
    diary = Diary()
    old, new = build(stage, diary), build(stage, diary, lease_ttl=40)
    first = await stage.start(old)
    assert not stage.server.change_ttl(40).is_open
    await is_open(stage, 40)
    second = await stage.start(new)
    assert (trusted(first), trusted(second)) == (6.5, 6.5)
    await first.drain()
    await anyio.sleep(20)
    assert stage.server.change_ttl(40).under_way
    await eventually(lambda: trusted(second) == 26.0, 25)
    assert not stage.server.change_ttl(40).under_way
    async with new:
        job = await new.ref("limited").enqueue(60)
        await eventually(lambda: second.stats().running == 1)
        await anyio.sleep(6)  # a renewal by the longer lease was sent meanwhile
        await outage(new, 20)
        assert await job.result(timeout=100) == "limited done"
    assert diary.of("limited") == ["began", "ended"]


async def test_a_lowered_ttl_cuts_the_leases_that_run(stage: Stage) -> None:
    """Every worker lives by the shorter one before any with it may join."""
    diary = Diary()
    old, new = build(stage, diary), build(stage, diary, lease_ttl=2)
    first = await stage.start(old)
    async with old:
        await old.ref("limited").enqueue(60)
        await eventually(lambda: first.stats().running == 1)
        stage.server.change_ttl(2)
        await is_open(stage, 2)
        assert trusted(first) == 1.3
        second = await stage.start(new)
        began = anyio.current_time()
        await outage(old, 3)
        assert diary.when("limited", "lease_lost") - began <= 1.4
        await eventually(lambda: first.stats().running + second.stats().running == 1)
    assert diary.most["limited"] == 1


async def test_a_worker_waits_until_the_change_is_open(stage: Stage) -> None:
    """A new worker that is too early joins as soon as the old ones have acknowledged; ``start_timeout`` bounds it."""
    diary = Diary()
    old, new = build(stage, diary), build(stage, diary, lease_ttl=40)
    await stage.start(old)
    old.lines[-1].cut(4)
    stage.server.change_ttl(40)
    began = anyio.current_time()
    with pytest.raises(flowq.ConfigurationError, match="--lease-ttl 40` says how many"):
        await flowq.run(new, start_timeout=1)
    worker = await stage.start(new)
    assert 3 <= anyio.current_time() - began <= 8
    assert trusted(worker) == 6.5


async def test_a_worker_that_was_told_brings_the_change_to_a_server_that_forgot(stage: Stage) -> None:
    """Everything is lost in the middle of a change: old and new workers are a fleet again, and the quarantine is the longer one."""
    diary = Diary()
    apps = [build(stage, diary), build(stage, diary, lease_ttl=40)]
    workers = [await stage.start(apps[0])]
    stage.server.change_ttl(40)
    await is_open(stage, 40)
    workers.append(await stage.start(apps[1]))
    stage.server.forget(keep_jobs=False)
    lost = [worker.id for worker in workers]
    await eventually(lambda: not set(lost) & {worker.id for worker in workers})
    state = stage.server.change_ttl(40)
    assert (state.ttl, state.under_way, state.live) == (40, True, 2)
    began = anyio.current_time()
    async with apps[0]:
        job = await apps[0].ref("limited").enqueue(1)
        assert await job.result(timeout=200) == "limited done"
    assert anyio.current_time() - began > 30


async def test_a_worker_that_was_cut_off_all_the_while_is_careful_with_a_server_that_forgot(
    stage: Stage,
) -> None:
    """It knows nothing of the longer lease that others may hold by now: limited jobs wait for as long as it was cut off."""
    diary = Diary()
    left_behind = build(stage, diary)
    await stage.start(left_behind)
    left_behind.lines[-1].cut(60)
    await anyio.sleep(59)
    stage.server.forget(keep_jobs=False)
    began = anyio.current_time()
    async with build(stage, diary) as producer:
        job = await producer.ref("limited").enqueue(1)
        assert await job.result(timeout=200) == "limited done"
    assert 55 < anyio.current_time() - began < 75


async def test_a_change_that_was_taken_back_leaves_the_workers_as_they_were(stage: Stage) -> None:
    """The lease is the old one, and so is the trust in it."""
    diary = Diary()
    app = build(stage, diary)
    worker = await stage.start(app)
    stage.server.change_ttl(2)
    await is_open(stage, 2)
    stage.server.change_ttl(10)
    await eventually(lambda: not stage.server.change_ttl(10).under_way, 15)
    await eventually(lambda: trusted(worker) == 6.5)
