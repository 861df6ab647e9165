"""Submitting, and what a submitter learns of a job, on the memory backend with a worker by hand."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest

import flowq
from flowq._codec import encode_record
from flowq._model import Dead, Record, Succeeded
from tests.app.hand_worker import HandWorker, end_cancelled


@dataclass
class Order:
    id: int
    tags: set[str]


@pytest.fixture
async def worker(app: flowq.App[None]) -> AsyncIterator[HandWorker]:
    """The app, open, with some tasks and a worker that runs what is ready when told so."""

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.task
    async def bill(order: Order) -> Order:
        order.tags.add("billed")
        return order

    @app.task(results=False)
    def quiet() -> None: ...

    @app.task
    async def broken(n: int) -> int:
        raise ValueError(f"{n} is no good")

    async with app:
        worker = HandWorker(app)
        await worker.join()
        yield worker
        await worker.leave()


async def test_a_result_comes_back_in_its_type(app: flowq.App[None], worker: HandWorker) -> None:
    """Arguments and results are what their annotations say, not what JSON makes of them."""
    job = await app.ref("bill").enqueue(Order(1, {"new"}))
    await worker.work()

    result = await job.result()

    assert result == Order(1, {"new", "billed"})
    assert await job.status() is flowq.JobStatus.SUCCEEDED


async def test_a_waiter_is_woken_by_the_end(app: flowq.App[None], worker: HandWorker) -> None:
    """It may wait before, during and after."""
    job = await app.ref("double").enqueue(21)
    results = []

    async def wait() -> None:
        results.append(await job.result(timeout=5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await worker.work()

    assert [*results, await job.result(timeout=0)] == [42, 42]


async def test_a_waiter_may_give_up(app: flowq.App[None], worker: HandWorker) -> None:
    """The job does not notice; timeout=0 only looks."""
    job = await app.ref("double").enqueue(1)

    for timeout in (0, 0.01, datetime.timedelta(milliseconds=1)):
        with pytest.raises(TimeoutError):
            await job.result(timeout)
    await worker.work()

    assert await job.result() == 2


async def test_any_process_can_ask_by_id(app: flowq.App[None], worker: HandWorker) -> None:
    """A web API gives the id out and takes it back; both ways convert by the annotation."""
    job_id = (await app.ref("bill").enqueue(Order(1, set()))).id
    await worker.work()

    assert await app.ref("bill").job(job_id).result() == Order(1, {"billed"})
    assert await app.job(job_id).result() == Order(1, {"billed"})
    assert app.job(job_id) == app.job(job_id) != app.job(job_id + "0")
    assert repr(app.job(job_id)) == f"<Job {job_id}>"


@pytest.mark.parametrize("job_id", ["double:999-0", "bill:1-0", "nonsense", "", "nosuch:1-0"])
async def test_an_id_of_nothing(app: flowq.App[None], worker: HandWorker, job_id: str) -> None:
    """Ids come from outside: a wrong one is an answer of its own kind, not a crash and not a hang."""
    job = app.ref("double").job(job_id)

    assert await job.status() is flowq.JobStatus.UNKNOWN
    assert await job.cancel(wait=True) is flowq.CancelAnswer.UNKNOWN
    with pytest.raises(flowq.ResultUnavailable) as caught:
        await job.result()
    assert caught.value.job_id == job_id
    assert "ids look like resize:1764000000000-0" in str(caught.value) or job_id == "double:999-0"


def test_errors_are_called_as_they_are_imported() -> None:
    """In a traceback, a log and a dead letter: ``flowq.Reject``, not the module in which it happens to be written."""
    names = [name for name in flowq.__all__ if isinstance(getattr(flowq, name), type)]
    errors = [getattr(flowq, name) for name in names if issubclass(getattr(flowq, name), Exception)]
    assert len(errors) > 25
    assert {error.__module__ for error in errors} == {"flowq"}
    assert pickle.loads(pickle.dumps(flowq.Reject("no"))).args == ("no",)


async def test_a_failure_says_what_happened_where(app: flowq.App[None], worker: HandWorker) -> None:
    """Kind, remote type and message in the error, the remote traceback as its note."""
    job = await app.ref("broken").enqueue(5)
    await worker.work()

    with pytest.raises(flowq.JobFailed, match=r"failed \(error\): ValueError: 5 is no good") as caught:
        await job.result()

    assert (caught.value.kind, caught.value.remote_type, caught.value.job_id) == (
        "error",
        "ValueError",
        job.id,
    )
    assert "raise ValueError" in caught.value.__notes__[0]
    assert await job.status() is flowq.JobStatus.DEAD


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("timeout", flowq.JobTimedOut),
        ("crashed", flowq.JobCrashed),
        ("rejected", flowq.JobFailed),
        ("skew", flowq.JobFailed),
    ],
)
async def test_failures_can_be_told_apart(
    app: flowq.App[None], worker: HandWorker, kind: str, error: type[flowq.JobFailed]
) -> None:
    """By class where that matters, by kind always."""
    job = await app.ref("double").enqueue(1)
    (delivery,) = await worker.claim()
    record = encode_record(Record("dead", kind=kind, reason="because"))
    await worker.settle(delivery, Dead(kind, "because", record, 60_000, b"{}"))

    with pytest.raises(error, match="because") as caught:
        await job.result()

    assert type(caught.value) is error
    assert caught.value.kind == kind


async def test_no_results_no_waiting(app: flowq.App[None], worker: HandWorker) -> None:
    """A task that stores none says so at once, and has a status all the same."""
    job = await app.ref("quiet").enqueue()

    with pytest.raises(flowq.ResultUnavailable, match="results=False"):
        await job.result()
    before = await job.status()
    await worker.work()

    assert [before, await job.status()] == [flowq.JobStatus.READY, flowq.JobStatus.UNKNOWN]


async def test_a_result_of_another_version(app: flowq.App[None], worker: HandWorker) -> None:
    """A value that does not fit the annotation here is said as such: the job itself has succeeded."""
    job = await app.ref("double").enqueue(1)
    (delivery,) = await worker.claim()
    await worker.settle(delivery, Succeeded(b'{"status":"succeeded","value":"two"}', 60_000))

    with pytest.raises(
        flowq.ResultUnavailable, match="does not fit the return annotation here: Expected `int`"
    ):
        await job.result()


async def test_cancel_before_it_starts(app: flowq.App[None], worker: HandWorker) -> None:
    """Ready or delayed, it never runs; whoever waits gets the reason."""
    ready = await app.ref("double").enqueue(1)
    delayed = await app.ref("double").options(delay=60).enqueue(2)
    was = [await ready.status(), await delayed.status()]

    answers = [await ready.cancel("changed my mind"), await delayed.cancel(wait=True)]

    assert was == [flowq.JobStatus.READY, flowq.JobStatus.DELAYED]
    assert answers == [flowq.CancelAnswer.REMOVED] * 2
    assert await worker.work() == 0
    with pytest.raises(flowq.JobCancelled, match="was cancelled: changed my mind") as caught:
        await ready.result()
    assert caught.value.reason == "changed my mind"
    assert await delayed.status() is flowq.JobStatus.CANCELLED
    assert await ready.cancel() is flowq.CancelAnswer.ALREADY_DONE


async def test_cancel_while_it_runs(app: flowq.App[None], worker: HandWorker) -> None:
    """Its worker is told; wait=True returns once the body has left."""
    job = await app.ref("double").enqueue(1)
    (delivery,) = await worker.claim()
    answers = []

    async def cancel() -> None:
        answers.append(await job.cancel("stop", wait=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel)
        await anyio.wait_all_tasks_blocked()
        status = await job.status()
        early = list(answers)
        await end_cancelled(worker, delivery, "stop")

    assert (status, early, answers) == (flowq.JobStatus.CANCELLING, [], [flowq.CancelAnswer.REQUESTED])
    with pytest.raises(flowq.JobCancelled):
        await job.result()


async def test_a_key_is_taken_until_its_job_has_ended(app: flowq.App[None], worker: HandWorker) -> None:
    """The second submit returns the first one's job; after its end the key is free."""
    task = app.ref("double").options(key="order-7")

    jobs = [await task.enqueue(1), await task.enqueue(2)]
    await worker.work()
    later = await task.enqueue(3)

    assert [job.created for job in jobs] == [True, False]
    assert jobs[0].id == jobs[1].id != later.id
    assert later.created
    assert await jobs[1].result() == 2
    await worker.work()


async def test_options_travel_with_the_job(app: flowq.App[None], worker: HandWorker) -> None:
    """Its own retries, timeout, times and headers are in the envelope, in ms."""
    task = app.ref("double").options(
        retries=0, timeout=None, result_ttl=5, headers={"trace": "abc"}, expires=60
    )
    await task.enqueue(1)
    await worker.work()

    (call,) = worker.calls

    assert (call.retries, call.timeout, call.result_ttl, call.headers) == (0, 0, 5000, {"trace": "abc"})
    assert call.expires > 1_700_000_000_000


async def test_submitting_without_the_code(app: flowq.App[None], worker: HandWorker) -> None:
    """A producer that knows only the name: unchecked here, sorted out by the worker."""
    stranger: flowq.App[None] = flowq.App("shop", "memory://")
    stranger._places = app._places
    async with stranger:
        job = await stranger.enqueue("double", n=4)
        assert await worker.work() == 1
        assert await job.result() == 8
        with pytest.raises(flowq.ConfigurationError, match="known by name only"):
            _ = stranger.ref("double").fn


async def test_an_unknown_name_is_refused_where_the_code_is(app: flowq.App[None], worker: HandWorker) -> None:
    """A typo is an error, not a job that waits for ever; ref() is the way to code that is elsewhere."""
    with pytest.raises(
        flowq.UnknownTask, match=r"no task 'doubel' .*did you mean 'double'\?.*app.ref\('doubel'\)"
    ):
        await app.enqueue("doubel", 1)
    with pytest.raises(flowq.InvalidName):
        await flowq.App("other", "memory://").enqueue("two words")
    for change in (app.pause, app.resume, partial(app.set_limit, limit=2)):
        with pytest.raises(flowq.UnknownTask, match="did you mean 'double'"):
            await change("doubel")
    job = await app.ref("elsewhere").enqueue(1)
    await job.cancel()
    await app.set_limit(app.ref("elsewhere"), None)


async def test_what_is_not_bound_is_not_submitted(app: flowq.App[None], worker: HandWorker) -> None:
    """A task or a tuple in the place of a bound call: the error says what makes one."""
    double: flowq.Task[..., Any] = app.ref("double")
    for wrong in (double, (double, 1), None):
        with pytest.raises(flowq.InvalidArguments, match=r"made by bind\(\), as in"):
            await app.enqueue_many([wrong])  # type: ignore[list-item]  # the point
        with pytest.raises(flowq.InvalidArguments, match=r"made by bind\(\), as in"):
            app.sync().enqueue(wrong)  # type: ignore[arg-type]  # the point


async def test_enqueue_many_in_chunks(app: flowq.App[None], worker: HandWorker) -> None:
    """Any number, from any iterable, in order."""
    double = app.ref("double")

    jobs = await app.enqueue_many(double.bind(n) for n in range(1234))

    assert len({job.id for job in jobs}) == 1234
    while await worker.work():
        pass
    assert [await jobs[n].result() for n in (0, 499, 500, 1233)] == [0, 998, 1000, 2466]
    assert await app.enqueue_many([]) == []


async def test_enqueue_many_says_how_far_it_came(app: flowq.App[None], worker: HandWorker) -> None:
    """Arguments that do not fit in the second chunk: the error carries the jobs of the first."""
    double = app.ref("double")

    with pytest.raises(flowq.InvalidArguments) as caught:
        await app.enqueue_many(double.bind(n if n < 700 else "x") for n in range(1000))

    assert [job.id.partition(":")[0] for job in caught.value.accepted] == ["double"] * 500
    while await worker.work():
        pass


async def test_limits_are_handed_to_the_fleet(app: flowq.App[None], worker: HandWorker) -> None:
    """By task or by name; a paused task starts nothing and keeps its limit."""
    double: flowq.Task[..., Any] = app.ref("double")
    await app.enqueue_many(double.bind(n) for n in range(5))

    await app.set_limit(double, 2)
    taken = len(await worker.claim())
    await app.set_limit("double", None)
    await app.pause("double")
    while_paused = len(await worker.claim())
    await app.resume(double)
    rest = len(await worker.claim())

    assert (taken, while_paused, rest) == (2, 0, 3)
    with pytest.raises(flowq.ConfigurationError, match="whole number"):
        await app.set_limit("double", -1)


async def test_direct_calls_are_just_the_function(app: flowq.App[None]) -> None:
    """With its name and documentation, without a server."""

    @app.task
    async def greet(name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    @app.task
    def shout(name: str) -> str:
        return name.upper()

    assert await greet("you") == "hello you"
    assert shout("you") == "YOU"
    assert (greet.__name__, greet.__doc__) == ("greet", "Say hello.")
    assert (greet.is_sync, shout.is_sync) == (False, True)
    assert repr(shout) == "<SyncTask shout>"


def test_outside_a_job_there_is_none(app: flowq.App[None]) -> None:
    """Neither a current job nor the state of a worker."""
    with pytest.raises(LookupError, match="does not run inside a job"):
        flowq.current_job()
    with pytest.raises(LookupError, match="inside its jobs only"):
        _ = app.state


async def test_cleanup_is_shielded_for_a_while() -> None:
    """A cancelled body can finish what it must; what hangs is cut off."""
    done: list[object] = []

    with anyio.move_on_after(0.01):
        try:
            await anyio.sleep_forever()
        finally:
            with flowq.cleanup(5):
                await anyio.sleep(0.001)
                done.append("finished")
            with flowq.cleanup(0.01) as scope:
                await anyio.sleep_forever()
            done.append(scope.cancelled_caught)

    assert done == ["finished", True]
