"""The surface over a real redis-server: submitting, asking, and the producer without an event loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import flowq
from tests.app.hand_worker import HandWorker
from tests.conftest import RedisServer


@pytest.fixture
def app(redis_url: str, app_name: str) -> flowq.App[None]:
    app = flowq.App(app_name, redis_url)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    return app


@pytest.fixture
async def worker(app: flowq.App[None]) -> AsyncIterator[HandWorker]:
    async with app:
        worker = HandWorker(app)
        await worker.join()
        yield worker
        await worker.leave()


def double(app: flowq.App[None]) -> Any:
    return app.ref("double")


async def test_a_job_goes_there_and_back(app: flowq.App[None], worker: HandWorker) -> None:
    """Its id is its place in the stream: the bytes in Redis are the call and nothing else."""
    job = await double(app).enqueue(21)
    (delivery,) = await worker.claim()

    assert delivery.raw == b'{"v":1,"task":"double","args":[21]}'
    assert job.id == f"double:{delivery.entry}"
    assert await job.status() is flowq.JobStatus.RUNNING
    await worker.settle(delivery, await worker._run(delivery))
    assert await job.result(timeout=5) == 42


async def test_many_callers_many_jobs(app: flowq.App[None], worker: HandWorker) -> None:
    """Concurrent enqueues, each with its own receipt and result."""
    results: dict[int, int] = {}

    async def one(n: int) -> None:
        job = await double(app).enqueue(n)
        results[n] = await job.result(timeout=10)

    async with anyio.create_task_group() as tasks:
        for n in range(200):
            tasks.start_soon(one, n)
        with anyio.fail_after(10):
            while len(results) < 200:
                await worker.work()

    assert results == {n: 2 * n for n in range(200)}


async def test_delay_key_and_cancel(app: flowq.App[None], worker: HandWorker) -> None:
    """The id of a delayed job is in its envelope once it is ready; a key holds until the end."""
    task = double(app).options(delay=0.02, key="k")
    first, second = await task.enqueue(1), await task.enqueue(2)
    other = await double(app).options(delay=60).enqueue(3)

    assert (first.created, second.created, first == second) == (True, False, True)
    assert await first.status() is flowq.JobStatus.DELAYED
    assert await other.cancel("not needed") is flowq.CancelAnswer.REMOVED
    with anyio.fail_after(5):
        while not await worker.work():
            await app.session().backend.timers.promote()
    assert await first.result(timeout=5) == 2
    assert worker.calls[0].id == first.id
    with pytest.raises(flowq.JobCancelled, match="not needed"):
        await other.result(timeout=5)


async def test_what_was_submitted_is_counted_once(
    app: flowq.App[None], app_name: str, worker: HandWorker, redis_server: RedisServer
) -> None:
    """A submit whose key was taken has stored nothing, and counts as nothing: ``submitted`` counts jobs, as their ends do."""
    task = double(app)
    keyed = [task.options(key="k").bind(n) for n in range(3)]
    jobs = await app.enqueue_many([*keyed, task.bind(3), task.options(delay=60).bind(4)])
    await task.options(key="k").enqueue(5)

    assert [job.created for job in jobs] == [True, False, False, True, True]
    with redis_server.client() as client:
        assert int(client.hget(f"flowq:{{{app_name}}}:stats:double", "submitted") or 0) == 3
    for job in jobs:
        await job.cancel()


async def test_an_app_without_a_server_says_unavailable(app_name: str, tmp_path: Path) -> None:
    """Entering does not wait; a submit waits for enqueue_timeout and then surely has not happened."""
    app = flowq.App(app_name, f"unix://{tmp_path}/nobody.sock", enqueue_timeout=0.05)

    async with app:
        with pytest.raises(flowq.Unavailable, match="could not be reached"):
            await app.enqueue("work")
    with pytest.raises(flowq.Unavailable):
        await anyio.to_thread.run_sync(app.sync().enqueue, app.ref("work").bind())


async def test_a_thread_submits_and_waits(app: flowq.App[None], worker: HandWorker) -> None:
    """redis-py's synchronous client, no loop involved; the waiter is woken by the end."""
    answers: list[Any] = []

    def view(producer: flowq.SyncProducer, n: int) -> None:
        job = producer.enqueue(double(app).bind(n))
        answers.append((n, job.result(timeout=10), job.status()))

    with app.sync() as producer:
        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(anyio.to_thread.run_sync, view, producer, n)
            with anyio.fail_after(10):
                while len(answers) < 4:
                    await worker.work()
                    await anyio.sleep(0.001)

    assert sorted(answers) == [(n, 2 * n, flowq.JobStatus.SUCCEEDED) for n in range(4)]


async def test_a_thread_asks_and_cancels(app: flowq.App[None], worker: HandWorker) -> None:
    """The same answers as in an event loop."""

    def view() -> tuple[Any, ...]:
        with app.sync() as producer:
            job = producer.enqueue(double(app).options(delay=60).bind(1))
            with pytest.raises(TimeoutError):
                job.result(timeout=0.05)
            with pytest.raises(TimeoutError):
                job.result(timeout=0)
            was = job.status()
            answer = job.cancel("no")
            with pytest.raises(flowq.JobCancelled):
                job.result()
            with pytest.raises(flowq.ResultUnavailable):
                producer.job("double:1-0").result(timeout=5)
            return was, answer, job.status()

    assert await anyio.to_thread.run_sync(view) == ("delayed", "removed", "cancelled")


@pytest.mark.leaves_jobs("nobody serves the task")
def test_a_synchronous_producer_meets_another_layout_later(
    app: flowq.App[None], app_name: str, redis_server: RedisServer
) -> None:
    """A new flowq took over while it lived: with its next connection it is refused, with the old one it may go on."""
    with app.sync() as producer, redis_server.client() as client:
        bind: Callable[[int], Any] = double(app).bind
        producer.enqueue(bind(0))
        client.hset(f"flowq:{{{app_name}}}:clock", "schema", "2")
        producer.close()
        with pytest.raises(flowq.IncompatibleLayout, match="written in layout 2, this flowq reads layout 1"):
            producer.enqueue(bind(1))
        client.hdel(f"flowq:{{{app_name}}}:clock", "schema")
        producer.enqueue(bind(2))
        assert client.xlen(f"flowq:{{{app_name}}}:s:double") == 2


@pytest.mark.leaves_jobs("nobody serves the task")
def test_a_synchronous_producer_works_on_after_a_fork(app: flowq.App[None]) -> None:
    """As under gunicorn's prefork: parent and child do not read each other's replies."""
    producer = app.sync()
    bind: Callable[[int], Any] = double(app).bind
    producer.enqueue(bind(0))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, " ".join(producer.enqueue(bind(n)).id for n in range(50)).encode())
        finally:
            os._exit(0)
    ours = [producer.enqueue(bind(n)).id for n in range(50)]
    os.waitpid(child, 0)

    theirs = os.read(reader, 10_000).decode().split()

    assert len({*ours, *theirs}) == 100
    producer.close()


@pytest.mark.leaves_jobs("nobody serves the task")
def test_threads_share_a_synchronous_producer(app: flowq.App[None]) -> None:
    """Each call has a connection to itself."""
    ids: list[str] = []
    with app.sync() as producer:
        threads = [
            threading.Thread(
                target=lambda: ids.extend(producer.enqueue(double(app).bind(n)).id for n in range(25))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(set(ids)) == 100


@pytest.mark.leaves_jobs("nobody serves the task")
async def test_namespaces_do_not_meet(redis_server: RedisServer, app_name: str) -> None:
    """Staging and production on one server: the same names, other keys."""
    apps = [flowq.App(app_name, redis_server.url, namespace=n) for n in ("staging", None)]
    jobs = []
    for app in apps:
        async with app:
            jobs.append(await app.enqueue("work"))
    async with apps[1]:
        assert await apps[1].job(jobs[0].id).status() is flowq.JobStatus.UNKNOWN

    with redis_server.client() as client:
        keys = {key.partition("}")[0] for key in client.scan_iter(match=f"flowq:{{{app_name}*")}
    assert keys == {f"flowq:{{{app_name}", f"flowq:{{{app_name}@staging"}


@pytest.mark.slow
async def test_the_embedded_server_is_asked_for_by_name(tmp_path: Path, app_name: str) -> None:
    """embedded://dir: a private server that keeps its data, in the loop and without one."""
    app = flowq.App(app_name, f"embedded://{tmp_path}")
    async with app:
        job = await app.enqueue("work")
    async with app:
        again = await job.status()

    def view() -> flowq.JobStatus:
        with app.sync() as producer:
            return producer.job(job.id).status()

    assert [again, await anyio.to_thread.run_sync(view)] == [flowq.JobStatus.READY] * 2


async def test_a_server_that_does_not_answer(new_redis: Callable[..., RedisServer], app_name: str) -> None:
    """The jobs may be stored, and they were; the resend finds that out and stores nothing twice."""
    server = new_redis()
    app: flowq.App[None] = flowq.App(app_name, server.url, enqueue_timeout=0.2)
    async with app:
        await app.enqueue("work")
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(flowq.SubmitUnknown) as caught:
            await app.enqueue("work")
        server.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(10):
            job = await resend_until_known(caught.value)

        assert await job.status() is flowq.JobStatus.READY
        with server.client() as client:
            assert client.xlen(f"flowq:{{{app_name}}}:s:work") == 2


async def resend_until_known(error: flowq.SubmitUnknown) -> flowq.Job[Any]:
    while True:
        try:
            job: flowq.Job[Any] = await error.resend()
        except flowq.SubmitUnknown as again:
            error = again
        else:
            return job


async def test_a_full_server_refuses_and_says_so(
    new_redis: Callable[..., RedisServer], app_name: str
) -> None:
    """Nothing is stored, in the loop and without one."""
    app: flowq.App[None] = flowq.App(app_name, new_redis("--maxmemory", "1").url)
    bound = app.ref("work").bind()

    async with app:
        with pytest.raises(flowq.ServerFull, match="maxmemory"):
            await app.enqueue_many([bound])
        with pytest.raises(flowq.ServerFull, match="maxmemory"):
            await anyio.to_thread.run_sync(app.sync().enqueue, bound)


@pytest.mark.leaves_jobs("nobody serves the task")
async def test_concurrent_enqueues_share_requests(
    new_redis: Callable[..., RedisServer], app_name: str
) -> None:
    """A hundred at once cost a handful of scripts, as the server counts them; one after the other cost one each."""
    server = new_redis()
    app: flowq.App[None] = flowq.App(app_name, server.url)

    def scripts() -> int:
        with server.client() as client:
            return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

    async with app:
        await app.enqueue("work")
        start = scripts()
        for _ in range(10):
            await app.enqueue("work")
        alone = scripts() - start
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(app.enqueue, "work")
        together = scripts() - start - alone

    assert alone == 10
    assert together <= 10
