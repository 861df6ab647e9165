"""What a body may do to the worker that runs it: nothing that the next job of the same consumer would notice."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import trio

import flowq
from tests.conftest import running_redis
from tests.worker.conftest import Shop, left_behind, open_shop, until

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


async def test_context_variables_do_not_reach_the_next_job(shop: Shop) -> None:
    """One consumer, a job that sets a tenant and leaves it set, in a coroutine and in a thread: the next job sees none."""
    app = shop.app()

    @app.task
    async def set_it(name: str) -> str:
        tenant.set(name)
        return tenant.get()

    @app.task
    def set_it_in_a_thread(name: str) -> str:
        tenant.set(name)
        return tenant.get()

    @app.task
    async def read_it() -> str:
        return tenant.get()

    @app.task
    def read_it_in_a_thread() -> str:
        return tenant.get()

    await shop.start(app, concurrency=1)
    async with app:
        jobs = []
        for number in range(3):
            for setter in (set_it, set_it_in_a_thread):
                jobs += [
                    await setter.enqueue(f"tenant {number}"),
                    await read_it.enqueue(),
                    await read_it_in_a_thread.enqueue(),
                ]
        results = [await job.result(timeout=10) for job in jobs]
    assert set(results[1::3] + results[2::3]) == {"nobody"}
    assert results[0::3] == [f"tenant {number}" for number in range(3) for _ in range(2)]


async def test_a_body_for_the_other_event_loop_is_told_so(shop: Shop, anyio_backend_name: str) -> None:
    """An asyncio body under trio, a trio body under asyncio: what they raise names no cure, so the record and the log do."""
    app = shop.app()
    loop = anyio_backend_name
    other = "asyncio" if loop == "trio" else "trio"

    @app.task(retries=0)
    async def sleeps() -> None:
        if other == "asyncio":
            await asyncio.sleep(0.01)
        else:
            await trio.sleep(0.01)

    @app.task(retries=0)
    async def waits() -> None:
        await (asyncio.Event().wait() if other == "asyncio" else trio.Event().wait())

    said = rf"this body needs {other} and its worker runs {loop}: App\(…, backend=\"{other}\"\) or flowq run --backend {other}"
    await shop.start(app)
    async with app:
        for task in (sleeps, waits):
            with pytest.raises(flowq.JobFailed, match=said):
                await (await task.enqueue()).result(timeout=10)
    assert all(re.search(said, record.getMessage()) for record in shop.said("job.dead"))


async def test_a_leaked_scope_hits_no_other_job(shop: Shop) -> None:
    """A body leaves a cancel scope entered whose deadline would strike the next job: it does not, and the log names the guilty task."""
    app = shop.app()
    kept: list[Any] = []

    async def leaky() -> AsyncIterator[int]:
        with anyio.move_on_after(0.05):
            yield 1
            yield 2

    @app.task
    async def leak() -> int:
        generator = leaky()
        kept.append(generator)
        return await anext(generator)

    @app.task(retries=0)
    async def innocent(number: int) -> int:
        await anyio.sleep(0.15)
        return number

    worker = await shop.start(app, concurrency=2)
    async with app:
        for number in range(3):
            first = await leak.enqueue()
            jobs = [await innocent.enqueue(number * 10 + n) for n in range(4)]
            assert await first.result(timeout=5) == 1
            assert [await job.result(timeout=5) for job in jobs] == [number * 10 + n for n in range(4)]
        assert worker.stats().dead == 0
        await worker.drain()
    assert "leak" in shop.said("scope.damaged")[0].getMessage()


async def test_a_cancel_that_comes_late_hits_no_other_job(shop: Shop) -> None:
    """Jobs are cancelled at about the moment at which they end: each is cancelled or has succeeded, and the job after it is whole."""
    app = shop.app()

    @app.task(retries=0)
    async def short(number: int) -> int:
        await anyio.sleep(0.01)
        return number

    @app.task(retries=0)
    async def after(number: int) -> int:
        for _ in range(3):
            await anyio.sleep(0.003)
        return number

    worker = await shop.start(app, concurrency=1)
    outcomes: set[int | str] = set()
    async with app:
        for number in range(12):
            job, next_ = await short.enqueue(number), await after.enqueue(number)
            await anyio.sleep(0.003 * (number % 6))
            await job.cancel("late")
            outcomes.add(await outcome(job))
            assert await next_.result(timeout=5) == number
        await worker.drain()
    assert outcomes <= {"late", *range(12)}
    assert "late" in outcomes


async def outcome(job: flowq.Job[int]) -> int | str:
    try:
        return await job.result(timeout=5)
    except flowq.JobCancelled as error:
        return error.reason


@pytest.mark.parametrize("server_is", ["there", "dead"])
async def test_cancelling_the_nursery_around_it_ends_a_worker_soon(
    anyio_backend: object, caplog: pytest.LogCaptureFixture, server_is: str
) -> None:
    """An idle worker, and one with a body in hand, whether Redis answers or not: gone in a moment, and what it held is handed back as
    far as there is anybody to hand it to.
    """
    with running_redis() as server:
        async with open_shop(server, "own", caplog) as shop:
            app = shop.app()

            @app.task
            async def long() -> None:
                await anyio.sleep(60)

            async with app:
                worker = await shop.start(app, concurrency=1)
                job = await long.enqueue()
                await until(lambda: worker.stats().running == 1, "it runs")
                if server_is == "dead":
                    server.process.kill()
                    server.process.wait()
                began = anyio.current_time()
                shop.cancel(worker)
                await until(lambda: shop.has_ended(worker), "it has ended", 5)
                took = anyio.current_time() - began
                print(f"server {server_is}: gone after {took:.3f} s")  # noqa: T201 -- a figure
                if server_is == "there":
                    assert await job.status() == "ready"
                    await job.cancel()
        if server_is == "there":
            assert left_behind(server, "own") == []
    assert took < 3
