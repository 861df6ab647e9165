"""The keeper's thread against a real clock, and what it publishes for a supervisor."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import anyio
import pytest

import flowq
from flowq._clock import monotonic_clock
from flowq._model import Renewed
from flowq._runtime.overrun import SLOTS, VARIABLE, Publisher, create, read
from flowq.backends.protocol import Standing
from tests.runtime.conftest import Stage, eventually


async def test_a_blocked_loop_does_not_cost_the_lease(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """P8: the thread renews while a body blocks the loop for more than a whole lease; the log shows where the loop is."""
    app = stage.app(lease_ttl=1)

    @app.task(limit=1, retries=0)
    async def blocks() -> str:
        time.sleep(2.5)  # noqa: ASYNC251 - that is the point
        return "done"

    worker = await stage.start(app)
    member = worker.id
    async with app:
        with caplog.at_level(logging.WARNING):
            assert await (await blocks.enqueue()).result(timeout=10) == "done"
    assert worker.id == member
    assert worker.stats().leases_lost == 0
    (stalled,) = [r for r in caplog.records if getattr(r, "event", "") == "loop.stalled"]
    assert "time.sleep(2.5)" in stalled.getMessage()


async def test_a_loop_that_blocks_for_too_long_is_not_renewed_for(stage: Stage) -> None:
    """Beyond ``max_loop_stall`` the lease is given up: on waking the body's loop finds it lost, before anything else."""
    app = stage.app(lease_ttl=1)
    attempts: list[int] = []

    @app.task(limit=1, retries=0)
    async def blocks() -> str:
        attempts.append(flowq.current_job().attempt)
        if len(attempts) == 1:
            time.sleep(1.5)  # noqa: ASYNC251 - that is the point
            await anyio.sleep(1)
        return "done"

    worker = await stage.start(app, max_loop_stall=0.3)
    member = worker.id
    async with app:
        assert await (await blocks.enqueue()).result(timeout=10) == "done"
    assert worker.id != member
    assert worker.stats().leases_lost == 1


async def test_the_keepers_thread_ends_with_the_worker(stage: Stage) -> None:
    """Nothing of a worker stays behind."""
    app = stage.app()

    @app.task
    async def job() -> None: ...

    before = set(threading.enumerate())
    worker = await stage.start(app)
    (keeper,) = [t for t in threading.enumerate() if t not in before and t.name == "flowq keeper"]
    await worker.drain()
    await eventually(lambda: not keeper.is_alive())


async def test_a_keeper_that_fails_takes_the_worker_along(stage: Stage) -> None:
    """A worker whose lease nobody renews must not go on quietly."""
    app = stage.app()

    @app.task
    async def job() -> None: ...

    with pytest.raises(flowq.FlowqError, match="keeper"):  # noqa: PT012 - the block is the embedder's
        async with flowq.open_worker(app) as worker:
            worker._crew.keeper._new_renewer = lambda: 1 / 0  # type: ignore[assignment, return-value]
            worker._crew.keeper._renewer = None
            worker._crew.floor.lease.due = 0.0
            worker._crew.keeper.poke()
            await anyio.sleep(5)


async def test_deadlines_are_published_for_the_supervisor(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot holds a kill time ahead of now and the limited bodies that may run; it is free when the worker has ended."""
    path = tmp_path / "deadlines"
    create(path)
    monkeypatch.setenv(VARIABLE, str(path))
    app = stage.app(lease_ttl=2)
    started = anyio.Event()

    @app.task(limit=3)
    async def limited() -> None:
        started.set()
        await anyio.sleep(0.4)

    now = monotonic_clock()
    worker = await stage.start(app)
    async with app:
        job = await limited.enqueue()
        await started.wait()
        await eventually(lambda: [slot.bodies for slot in read(path)] == [1])
        first = read(path)[0].kill_at
        assert now() < first <= now() + 2
        await job.result(timeout=5)
        await eventually(lambda: [slot.bodies for slot in read(path)] == [0])
        await eventually(lambda: read(path)[0].kill_at > first)
    await worker.drain()
    await eventually(lambda: read(path) == [])


async def test_an_overrun_is_published_until_the_body_has_left(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limited body that ignores its cancel is overdue in the slot from its kill time on; when it leaves, nobody is."""
    path = tmp_path / "deadlines"
    create(path)
    monkeypatch.setenv(VARIABLE, str(path))
    app = stage.app(lease_ttl=1)
    leave = anyio.Event()
    now = monotonic_clock()

    @app.task(limit=1)
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await leave.wait()

    worker = await stage.start(app)
    async with app:
        await stubborn.enqueue()
        await eventually(lambda: worker.stats().running == 1)
        app.line.cut(60)
        await eventually(lambda: any(slot.is_overdue(now()) for slot in read(path)))
        leave.set()
        await eventually(lambda: not any(slot.is_overdue(now()) for slot in read(path)))


@pytest.mark.parametrize("body", ["had ended", "leaves when cancelled"])
async def test_a_keeper_that_waits_for_an_answer_does_not_make_a_worker_overdue(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """P8: the lease ends while the renewal hangs and outcomes cannot be sent, and no limited body stays: there is nobody to kill."""
    path = tmp_path / "deadlines"
    create(path)
    monkeypatch.setenv(VARIABLE, str(path))
    app = stage.app(lease_ttl=1)
    end, end_free = anyio.Event(), anyio.Event()
    answered = threading.Event()
    now = monotonic_clock()

    @app.task(limit=1)
    async def waits() -> None:
        await end.wait()

    @app.task
    async def free() -> None:
        await end_free.wait()

    worker = await stage.start(app)

    class Hanging:
        """Its request is on its way, and no reply comes."""

        def renew(self, me: Standing, running: int, heard: str) -> Renewed:
            answered.wait(10)
            raise flowq.Unavailable("no reply came")

        def close(self) -> None: ...

    async with app:
        await waits.enqueue()
        await free.enqueue()
        await eventually(lambda: worker.stats().running == 2 and [slot.bodies for slot in read(path)] == [1])
        app.line.cut(60)
        worker._crew.keeper._new_renewer = Hanging
        worker._crew.keeper._renewer = None
        end_free.set()
        if body == "had ended":
            end.set()
        kill_at = read(path)[0].kill_at
        try:
            while now() < kill_at + 0.3:
                assert not any(slot.is_overdue(now()) for slot in read(path))
                await anyio.sleep(0.01)
        finally:
            answered.set()
    assert worker.stats().leases_lost == 1


def test_each_worker_of_a_process_has_a_slot_of_its_own(tmp_path: Path) -> None:
    """Slots are taken, freed and taken again; when all are taken the next worker is told."""
    path = tmp_path / "deadlines"
    create(path)
    publishers = [Publisher(str(path)) for _ in range(SLOTS)]
    publishers[3].publish(5.0, 7)
    assert [(slot.slot, slot.bodies) for slot in read(path) if slot.bodies] == [(3, 7)]
    with pytest.raises(RuntimeError, match="slots"):
        Publisher(str(path))
    publishers[3].close()
    again = Publisher(str(path))
    again.publish(6.0, 1)
    assert [(slot.slot, slot.kill_at) for slot in read(path) if slot.bodies] == [(3, 6.0)]
    for publisher in (*publishers, again):
        publisher.close()
    assert read(path) == []


def test_without_a_supervisor_nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no file, no cost; a variable that names nothing is an error, since a blind supervisor must be known of."""
    monkeypatch.delenv(VARIABLE, raising=False)
    silent = Publisher.from_environment()
    silent.publish(1.0, 1)
    assert not silent.is_active
    monkeypatch.setenv(VARIABLE, "/nowhere/at/all")
    with pytest.raises(OSError, match="nowhere"):
        Publisher.from_environment()
