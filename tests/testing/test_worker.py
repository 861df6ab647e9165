"""``flowq.testing.worker``: an app with a real worker and no server, as users' tests see it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from uuid import UUID

import anyio
import pytest
import trio

import flowq
from flowq.backends.protocol import OpenBackend
from flowq.testing import EnqueuedJob
from tests.runtime.conftest import VIRTUAL

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def app() -> flowq.App[None]:
    """An app of a server that is not there."""
    return flowq.App("shop", NOWHERE)


async def test_jobs_run_without_the_apps_server(app: flowq.App[None]) -> None:
    """The worker is a real one, the place is in memory, whatever the URL says."""

    @app.task
    async def resize(image: str, width: int = 200) -> str:
        return f"{image}@{width}"

    async with flowq.testing.worker(app) as w:
        job = await resize.enqueue("a.png", width=80)
        await w.run_until_idle()

        assert await job.status() is flowq.JobStatus.SUCCEEDED
        assert await job.result(timeout=0) == "a.png@80"
        assert w.worker.stats().succeeded == 1


async def test_an_app_without_any_url_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test needs no variable."""
    monkeypatch.delenv("FLOWQ_URL", raising=False)
    app = flowq.App("shop")

    @app.task
    async def work() -> int:
        return 1

    async with flowq.testing.worker(app) as w:
        job = await work.enqueue()
        await w.run_until_idle()
        assert await job.result() == 1
    with pytest.raises(flowq.NoServer):
        async with app:
            pass


async def test_idle_means_that_jobs_of_jobs_have_ended_too(app: flowq.App[None]) -> None:
    """What bodies enqueue is waited for."""
    seen: list[int] = []

    @app.task
    async def count_down(n: int) -> None:
        await anyio.sleep(0.002)
        seen.append(n)
        if n:
            await count_down.enqueue(n - 1)

    async with flowq.testing.worker(app) as w:
        await count_down.enqueue(3)
        await w.run_until_idle()
        assert seen == [3, 2, 1, 0]


async def test_further_attempts_do_not_wait_for_backoff(app: flowq.App[None]) -> None:
    """They start at once, as many as the task's retries allow; the last failure is a dead letter with its cause."""
    attempts: list[int] = []

    @app.task(retries=2)
    async def fails() -> None:
        attempts.append(flowq.current_job().attempt)
        raise ValueError("no good")

    async with flowq.testing.worker(app) as w:
        job = await fails.enqueue()
        await w.run_until_idle()

        assert attempts == [1, 2, 3]
        [letter] = w.dead_letters
        assert (letter.id, letter.task, letter.kind, letter.attempts) == (job.id, "fails", "error", 3)
        assert (letter.type, letter.message) == ("ValueError", "no good")
        assert 'raise ValueError("no good")' in letter.traceback
        with pytest.raises(flowq.JobFailed, match="no good"):
            await job.result()


async def test_delayed_jobs_wait_until_time_is_moved_on(app: flowq.App[None]) -> None:
    """A delay is not skipped by itself: a test can see that the job has not run, and then let it run."""
    seen: list[str] = []

    @app.task
    async def remind(whom: str) -> None:
        seen.append(whom)

    async with flowq.testing.worker(app) as w:
        soon = await remind.options(delay=3600).enqueue("soon")
        late = await remind.options(delay=7200).enqueue("late")
        await w.run_until_idle()
        assert seen == []
        for hours in range(1, 3):
            w.advance(3600)
            await w.run_until_idle()
            assert len(seen) == hours
        assert seen == ["soon", "late"]
        assert await soon.status() is flowq.JobStatus.UNKNOWN  # its result's hour is over, too
        assert await late.status() is flowq.JobStatus.SUCCEEDED
        assert w.worker.stats().leases_lost == 0


async def test_what_was_enqueued_can_be_looked_at(app: flowq.App[None]) -> None:
    """Ended or not, in order, with arguments in their types and by name; a second submit under a taken key is no job."""

    @app.task
    async def resize(image: UUID, width: int = 200, *, fast: bool = False) -> None: ...

    @app.task
    async def other() -> None: ...

    async with flowq.testing.worker(app) as w:
        assert w.jobs() == []
        first = await resize.enqueue(A, width=80)
        second = await resize.options(delay=5, key="b", headers={"trace": "1"}).enqueue(B, fast=True)
        again = await resize.options(key="b").enqueue(C)
        await other.enqueue()

        a, b = w.jobs(resize)
        assert again.id == second.id
        assert [job.task for job in w.jobs()] == ["resize", "resize", "other"]
        assert w.jobs("other") == [w.jobs()[2]]
        assert (a.id, a.args, a.arguments) == (first.id, (A, 80), {"image": A, "width": 80})
        assert (b.id, b.delay, b.key, b.headers) == (second.id, 5.0, "b", {"trace": "1"})
        assert b.arguments == {"image": B, "fast": True}


async def test_a_job_of_code_that_is_elsewhere_is_seen_and_not_waited_for(app: flowq.App[None]) -> None:
    """A producer's test needs no task of the worker's program."""

    @app.task
    async def here() -> None: ...

    async with flowq.testing.worker(app) as w:
        job = await app.ref("elsewhere").options(key="k").enqueue("a", size=1)
        await w.run_until_idle()
        assert w.jobs() == [
            EnqueuedJob(id=job.id, task="elsewhere", args=("a",), kwargs={"size": 1}, arguments={}, key="k")
        ]
        assert await job.status() is flowq.JobStatus.READY


async def test_assert_enqueued_compares_whole_calls(app: flowq.App[None]) -> None:
    """By position or by name, defaults left out or given: the same call is the same; another one is an AssertionError that lists
    what there is.
    """

    @app.task
    async def resize(image: str, width: int = 200) -> None: ...

    async with flowq.testing.worker(app) as w:
        await resize.enqueue("a.png")
        job = await resize.enqueue("b.png", 80)

        assert w.assert_enqueued(resize, "a.png", width=200).args == ("a.png",)
        assert w.assert_enqueued(resize, image="b.png", width=80).id == job.id
        with pytest.raises(AssertionError, match=r"no job resize\(image='c.png', width=200\)") as caught:
            w.assert_enqueued(resize, "c.png")
        assert "(image='b.png', width=80)" in str(caught.value)


async def test_what_stays_at_work_is_named(app: flowq.App[None]) -> None:
    """A body that does not end is a TimeoutError that names its task; leaving the block cancels it."""
    reasons: list[str | None] = []

    @app.task
    async def endless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(flowq.current_job().cancel_reason)

    async with flowq.testing.worker(app) as w:
        await endless.enqueue()
        with pytest.raises(TimeoutError, match=r"not idle after 0\.05 s: endless: 0 ready, 1 running"):
            await w.run_until_idle(timeout=0.05)
    assert reasons == ["shutdown"]


async def test_a_paused_task_is_idle(app: flowq.App[None]) -> None:
    """What must not start is not waited for."""
    seen: list[int] = []

    @app.task
    async def work(n: int) -> None:
        seen.append(n)

    async with flowq.testing.worker(app) as w:
        await app.pause(work)
        await work.enqueue(1)
        await w.run_until_idle()
        assert seen == []
        await app.resume(work)
        await w.run_until_idle()
        assert seen == [1]


async def test_limits_and_options_of_run_are_real(app: flowq.App[None]) -> None:
    """A limit holds; what ``flowq.run`` takes can be said; a task that is excluded is not waited for."""
    running, peak = 0, 0

    @app.task(limit=2)
    async def work() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(0.005)
        running -= 1

    @app.task
    async def excluded() -> None: ...

    async with flowq.testing.worker(app, concurrency=8, exclude=iter(["excluded"])) as w:
        await app.enqueue_many(work.bind() for _ in range(6))
        await excluded.enqueue()
        await w.run_until_idle()
        assert peak == 2
        assert w.worker.stats().succeeded == 6


async def test_sync_bodies_and_the_sync_producer(app: flowq.App[None]) -> None:
    """A plain ``def`` runs in a thread and may submit; its job is waited for as any other."""
    seen: list[int] = []

    @app.task
    def parent() -> None:
        with app.sync() as producer:
            producer.enqueue(child.bind(5))

    @app.task
    async def child(n: int) -> None:
        seen.append(n)

    async with flowq.testing.worker(app) as w:
        await parent.enqueue()
        await w.run_until_idle()
        assert seen == [5]


async def test_each_block_begins_with_nothing(app: flowq.App[None]) -> None:
    """Jobs and limits of one test do not reach the next."""

    @app.task
    async def work() -> None: ...

    async with flowq.testing.worker(app) as w:
        await app.set_limit(work, 0)
        await work.enqueue()
        await w.run_until_idle()
    async with flowq.testing.worker(app) as w:
        assert w.jobs() == []
        job = await work.enqueue()
        await w.run_until_idle()
        assert await job.status() is flowq.JobStatus.SUCCEEDED


async def test_the_lifespan_is_run(app: flowq.App[None]) -> None:
    """``app.state`` is what the lifespan yields, and it is closed with the block."""
    said: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        said.append("open")
        yield "pool"
        said.append("closed")

    stateful = flowq.App("stateful", NOWHERE, lifespan=lifespan)

    @stateful.task
    async def work() -> str:
        return stateful.state

    async with flowq.testing.worker(stateful) as w:
        job = await work.enqueue()
        await w.run_until_idle()
        assert await job.result() == "pool"
        assert said == ["open"]
    assert said == ["open", "closed"]


async def test_a_worker_that_cannot_start_says_why(app: flowq.App[None]) -> None:
    """The error comes out of entering the block, as ``flowq.run`` raises it."""
    with pytest.raises(flowq.ConfigurationError, match="would serve nothing"):
        async with flowq.testing.worker(app):
            pass

    @app.task
    async def work() -> None: ...

    with pytest.raises(flowq.ConfigurationError, match="concurrency=0"):
        async with flowq.testing.worker(app, concurrency=0):
            pass


async def test_an_app_that_is_open_elsewhere_is_refused(app: flowq.App[None]) -> None:
    """What the test enqueued would go to the other place; so the order is said."""
    local = flowq.App("shop", "memory://")

    @local.task
    async def work() -> None: ...

    async with local:
        with pytest.raises(flowq.FlowqError, match=r"enter flowq\.testing\.worker\(app\) first"):
            async with flowq.testing.worker(local):
                pass


async def test_the_blocks_own_exception_comes_out_as_it_is(app: flowq.App[None]) -> None:
    """No group around it, and the app is closed and itself again."""

    @app.task
    async def work() -> None:
        await anyio.sleep_forever()

    async def block() -> None:
        async with flowq.testing.worker(app):
            await work.enqueue()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await block()
    assert repr(app) == "<App shop: 1 tasks, closed>"
    opener: OpenBackend = app.opener()
    assert "open_redis" in repr(opener)


async def test_after_a_drain_nothing_runs_and_that_is_said(app: flowq.App[None]) -> None:
    """Waiting for a job that no worker will run would only time out."""

    @app.task
    async def work() -> None: ...

    async with flowq.testing.worker(app) as w:
        await w.worker.drain()
        await w.run_until_idle()
        await work.enqueue()
        with pytest.raises(flowq.FlowqError, match="has ended"):
            await w.run_until_idle()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_it_is_entered_in_one_task_and_left_in_another(app: flowq.App[None]) -> None:
    """As a fixture of pytest-asyncio does."""

    @app.task
    async def work() -> int:
        return 3

    block = flowq.testing.worker(app)
    w = await asyncio.create_task(block.__aenter__())
    job = await asyncio.create_task(work.enqueue())
    await asyncio.create_task(w.run_until_idle())
    assert await asyncio.create_task(job.result()) == 3
    await asyncio.create_task(block.__aexit__(None, None, None))


@pytest.fixture
async def fixture_worker(
    app: flowq.App[None], anyio_backend: object
) -> AsyncIterator[flowq.testing.MemoryWorker]:
    async with flowq.testing.worker(app_with_a_task(app)) as w:
        yield w


def app_with_a_task(app: flowq.App[None]) -> flowq.App[None]:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    return app


async def test_it_stands_in_a_fixture_of_anyios_plugin(
    app: flowq.App[None], fixture_worker: flowq.testing.MemoryWorker
) -> None:
    """The usual place for it in a test suite on anyio."""
    job = await app.enqueue("double", 4)
    await fixture_worker.run_until_idle()
    assert await job.result() == 8


@pytest.mark.parametrize("anyio_backend", VIRTUAL[:1])
async def test_under_a_virtual_clock_sleeping_is_enough(app: flowq.App[None]) -> None:
    """With trio's MockClock time passes at once: delays need no ``advance``, and bodies that sleep end."""
    done: list[float] = []

    @app.task(timeout=None)
    async def long() -> None:
        await anyio.sleep(600)
        done.append(trio.current_time())

    async with flowq.testing.worker(app) as w:
        began = trio.current_time()
        await long.options(delay=300).enqueue()
        await w.run_until_idle()
        assert done == []
        await trio.sleep(301)
        await w.run_until_idle(timeout=None)
        assert done == [pytest.approx(began + 900, abs=2)]
        assert w.worker.stats().leases_lost == 0


@pytest.mark.parametrize("anyio_backend", VIRTUAL[:1])
async def test_expires_follows_a_virtual_clock(app: flowq.App[None]) -> None:
    """Said an hour later by that clock it still counts from then, for the producer as for the worker."""

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with flowq.testing.worker(app) as w:
        await trio.sleep(3600)
        job = await double.options(expires=60).enqueue(4)
        await w.run_until_idle()
        assert await job.result(timeout=1) == 8
        late = await double.options(expires=60, delay=120).enqueue(4)
        await trio.sleep(121)
        with pytest.raises(flowq.JobFailed, match="expired"):
            await late.result(timeout=1)


async def test_a_bodys_context_is_not_the_tests(app: flowq.App[None]) -> None:
    """As in production, where they are two processes: a variable that the test has set is not there."""
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    @app.task
    async def whose() -> str:
        return tenant.get()

    tenant.set("acme")
    async with flowq.testing.worker(app) as w:
        job = await whose.enqueue()
        await w.run_until_idle()
        assert await job.result() == "nobody"


PYTEST_TRIO = """
import flowq, pytest, trio

app = flowq.App("shop")

@app.task(retries=1)
async def double(n: int) -> int:
    await trio.sleep(60)
    if flowq.current_job().attempt == 1:
        raise OSError
    return 2 * n

@pytest.fixture
async def worker():
    async with flowq.testing.worker(app) as w:
        yield w

async def test_in_a_fixture(worker, autojump_clock):
    job = await double.enqueue(2)
    await worker.run_until_idle(timeout=300)
    assert await job.result() == 4

async def test_nothing_is_left_of_the_one_before(worker):
    assert worker.jobs() == [] and worker.dead_letters == []
"""


def test_pytest_trio_with_its_fixtures_and_clock(tmp_path: Path) -> None:
    """A suite of its own, run by pytest-trio in its trio mode."""
    (tmp_path / "test_shop.py").write_text(PYTEST_TRIO)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:anyio", "-W", "error", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
