"""The types of tasks, handles and producers."""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false, reportUnusedCoroutine=false

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, assert_type

import flowq

app = flowq.App("shop")
tasks = flowq.Tasks()


@app.task
async def resize(image: str, width: int = 200, *, fast: bool = False) -> str:
    return f"{image}@{width}{fast}"


@app.task
def checksum(data: bytes) -> int:
    return len(data)


@app.task(
    limit=3, timeout=datetime.timedelta(minutes=5), retries=2, retry_on=[OSError, ValueError], aliases=["old"]
)
async def tuned(n: int) -> list[int]:
    return [n]


@tasks.task(name="other", backoff=flowq.Backoff(base=1.0), on_lease_loss="continue")
def collected(n: int) -> None: ...


async def called_directly() -> None:
    coroutine: Coroutine[Any, Any, str] = resize("a")
    assert_type(await coroutine, str)
    assert_type(checksum(b"a"), int)
    assert_type(await tuned(1), list[int])
    collected(1)
    await resize(5)  # type: ignore[arg-type]
    checksum()  # type: ignore[call-arg]
    _: int = resize("a")  # type: ignore[assignment]


assert_type(app.ref("any"), flowq.Task[..., Any])


async def submits() -> None:
    assert_type(await resize.enqueue("a", 5, fast=True), flowq.Job[str])
    assert_type(await (await resize.enqueue("a")).result(timeout=5), str)
    assert_type(await (await checksum.enqueue(b"a")).result(), int)
    assert_type(await collected.enqueue(1), flowq.Job[None])
    assert_type(await resize.options(delay=10, key="k").enqueue("a"), flowq.Job[str])
    assert_type(resize.job("id"), flowq.Job[str])
    assert_type(app.job("id"), flowq.Job[Any])
    assert_type(await app.enqueue("resize", "a", anything=1), flowq.Job[Any])
    job = await resize.enqueue("a")
    assert_type(await job.status(), flowq.JobStatus)
    assert_type(await job.cancel("no", wait=True), flowq.CancelAnswer)
    _: int = await job.result()  # type: ignore[assignment]


async def refused_arguments() -> None:
    await resize.enqueue(5)  # type: ignore[arg-type]
    await resize.enqueue()  # type: ignore[call-arg]
    await resize.enqueue("a", widht=5)  # type: ignore[call-arg]
    await resize.enqueue("a", 5, True)  # type: ignore[call-arg]
    await checksum.enqueue("a")  # type: ignore[arg-type]
    resize.bind(5)  # type: ignore[arg-type]
    await resize.options(delay=1).enqueue(5)  # type: ignore[arg-type]


def refused_options() -> None:
    resize.options(dealy=5)  # type: ignore[call-arg]
    resize.options(delay="5")  # type: ignore[arg-type]
    resize.options(key=5)  # type: ignore[arg-type]
    app.task(limti=3)  # type: ignore[call-overload]
    app.task(limit="3")  # type: ignore[call-overload]
    app.task(on_lease_loss="explode")  # type: ignore[call-overload]
    flowq.App("shop", backend="curio")  # type: ignore[call-overload]
    flowq.App("shop", nmaespace="x")  # type: ignore[call-overload]
    resize.options(delay=1)("a")  # type: ignore[operator]


async def many() -> None:
    assert_type(resize.bind("a"), flowq.Bound[str])
    assert_type(await app.enqueue_many(resize.bind(p) for p in "abc"), list[flowq.Job[str]])
    assert_type(await app.enqueue_many([checksum.bind(b"a")]), list[flowq.Job[int]])
    mixed: list[flowq.Bound[object]] = [resize.bind("a"), checksum.bind(b"a")]  # handles are covariant
    assert_type(await app.enqueue_many(mixed), list[flowq.Job[object]])
    _: flowq.Job[object] = await resize.enqueue("a")


def without_a_loop() -> None:
    with app.sync() as producer:
        assert_type(producer.enqueue(resize.bind("a")), flowq.SyncJob[str])
        assert_type(producer.enqueue(resize.bind("a")).result(timeout=5), str)
        assert_type(producer.enqueue_many(checksum.bind(b"a") for _ in range(3)), list[flowq.SyncJob[int]])
        producer.enqueue(resize)  # type: ignore[arg-type]


@dataclass
class State:
    pool: str


@asynccontextmanager
async def resources() -> AsyncIterator[State]:
    yield State("pool")


# the state of the lifespan, typed
stateful = flowq.App("shop", lifespan=resources, backend="asyncio", lease_ttl=60.0)
assert_type(stateful, flowq.App[State])
assert_type(stateful.state.pool, str)
assert_type(app, flowq.App[None])


@stateful.around_job
@asynccontextmanager
async def around(job: flowq.RunningJob) -> AsyncIterator[None]:
    assert_type(job.fence, int)
    yield


@stateful.around_job  # type: ignore[type-var]
async def no_context_manager(job: flowq.RunningJob) -> None: ...


async def entered() -> None:
    async with stateful as opened:
        assert_type(opened, flowq.App[State])
    await stateful.set_limit(resize, 3)
    await stateful.set_limit("resize", None)
    await stateful.pause(checksum)


async def errors() -> None:
    try:
        await resize.enqueue("a")
    except flowq.JobFailed as failed:
        assert_type(failed.job_id, str)
        _: Literal["error", "timeout"] = failed.kind  # type: ignore[assignment]
    except flowq.FlowqError as error:
        assert_type(error.accepted, Sequence[Any])


def inside() -> None:
    job = flowq.current_job()
    assert_type(job.attempt, int)
    with flowq.cleanup(5):
        assert_type(job.headers.get("trace"), str | None)
