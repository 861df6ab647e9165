"""SURFACE's day-one code: what three newcomers write first, as they would write it. Checked, never run."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import anyio
import trio

import flowq

# (a) a trio library: ships tasks without an app; the host owns nursery, signals, app
tasks = flowq.Tasks()


@tasks.task(limit=3, timeout=60)
async def index(path: str, deep: bool = False) -> int:
    try:
        async with trio.open_nursery() as n:
            n.start_soon(trio.sleep, 1)
        return flowq.current_job().fence
    finally:
        with flowq.cleanup(5):
            await trio.lowlevel.checkpoint()


async def serve(app: flowq.App[None]) -> None:
    app.include(tasks, prefix="idx.")
    async with trio.open_nursery() as nursery:
        worker: flowq.Worker = await nursery.start(partial(flowq.run, app, concurrency=8))
        with trio.fail_after(10):
            n: int = await (await index.enqueue("/srv", deep=True)).result()
        assert n > 0
        await worker.drain(grace=20)  # asked for; nursery.cancel_scope.cancel() is prompt


# (b) FastAPI, asyncio, leaving arq
@dataclass
class Order:
    id: UUID
    tags: set[str]


@dataclass
class State:
    pool: str


@asynccontextmanager
async def resources() -> AsyncIterator[State]:
    yield State("pool")


app = flowq.App("shop", lifespan=resources)  # url: FLOWQ_URL at entry, never at import


@app.task(limit=3, timeout=30)
async def bill(order: Order) -> Order:  # converted by annotation, both ways
    assert app.state.pool
    return order


@app.around_job
@asynccontextmanager
async def sentry(job: flowq.Running) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    async with flowq.open_worker(app, grace=20):  # drains on exit
        yield


async def post(order: Order) -> str:
    try:
        job = await bill.options(key=f"bill-{order.id}").enqueue(order)
    except flowq.SubmitUnknown as e:
        job = await e.resend()
    return job.id


async def get(job_id: str) -> Order:
    return await bill.job(job_id).result(timeout=0)


def django_view(order: Order) -> Order:
    with app.sync() as producer:
        return producer.enqueue(bill.bind(order)).result(timeout=5)


async def test_bill(order: Order) -> None:
    async with flowq.testing.worker(app) as w:
        job = await bill.enqueue(order)
        await w.run_until_idle()
        assert await job.result() == order
        w.assert_enqueued(bill, order)
        w.assert_enqueued(bill, "an order")  # type: ignore[arg-type]
        assert w.jobs(bill)[0].args == (order,)
    with flowq.testing.as_job(attempt=2, app=app, state=State("a fake pool")):
        assert await bill(order) == order


# (c) a script that runs what is there and ends
async def nightly() -> None:
    async with app:
        await app.enqueue_many(bill.bind(Order(UUID(int=n), {"nightly"})) for n in range(1000))
    await flowq.run(app, burst=True)


def main() -> None:
    trio.run(nightly)
    trio.run(flowq.run, app)
    anyio.run(flowq.run, app, backend="asyncio")
