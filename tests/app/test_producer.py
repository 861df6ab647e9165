"""The way of jobs to the server, over a place whose way can fail in every manner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

import flowq
from flowq._chunks import chunks
from flowq._errors import FlowqError, OutcomeUnknown, ServerFull, SubmitUnknown, Unavailable
from flowq._model import Receipt, Submission
from flowq._producer import MAX_BATCH, MAX_BYTES, BatchUnknown, Producer
from flowq.backends.protocol import Backend


class Way:
    """A place behind a way that loses things: what ``Producer`` sees of a backend, and what a test sees of the server."""

    def __init__(self) -> None:
        self.stored: dict[str, list[Receipt]] = {}
        self.sent: list[tuple[str, list[bytes]]] = []
        self.faults: list[FlowqError | None] = []
        """What each next submit meets; OutcomeUnknown: it was stored, the reply was lost."""
        self.hold = 0.0
        self.is_up = anyio.Event()
        self.is_up.set()
        self.in_flight = self.peak = 0

    @property
    def stream(self) -> Way:
        return self

    why_down = None

    async def wait_up(self) -> None:
        await self.is_up.wait()

    async def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        self.sent.append((batch_id, [s.envelope for s in batch]))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await (anyio.sleep(self.hold) if self.hold else anyio.lowlevel.checkpoint())
            fault = self.faults.pop(0) if self.faults else None
            if fault is None or isinstance(fault, OutcomeUnknown):
                first = sum(map(len, self.stored.values()))
                self.stored.setdefault(
                    batch_id, [Receipt(f"t:{first + i}-0", True) for i in range(len(batch))]
                )
            if fault is not None:
                raise fault
            return self.stored[batch_id]
        finally:
            self.in_flight -= 1

    @property
    def jobs(self) -> int:
        return sum(map(len, self.stored.values()))


@pytest.fixture
def way() -> Way:
    return Way()


@asynccontextmanager
async def sending(way: Way, *, timeout: float = 5.0) -> AsyncIterator[Producer]:
    producer = Producer(cast("Backend", way), timeout=timeout)
    async with anyio.create_task_group() as tasks:
        producer.start(tasks)
        yield producer
        tasks.cancel_scope.cancel()


def job(size: int = 10) -> list[Submission]:
    return [Submission("t", b"x" * size)]


async def together(n: int, call: Callable[[], Any]) -> list[Any]:
    """Results or errors of n concurrent calls."""
    results: list[Any] = []

    async def one() -> None:
        try:
            results.append(await call())
        except FlowqError as error:
            results.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(n):
            tasks.start_soon(one)
    return results


async def test_a_lone_submit_waits_for_nobody(way: Way) -> None:
    """One after the other is one request each, sent at once."""
    async with sending(way) as producer:
        for _ in range(3):
            await producer.submit(job())

    assert [len(batch) for _, batch in way.sent] == [1, 1, 1]


async def test_concurrent_submits_share_a_request(way: Way) -> None:
    """A hundred callers cost one or two; each gets its own receipt."""
    async with sending(way) as producer:
        receipts = await together(100, lambda: producer.submit(job()))

    assert len({r.job_id for (r,) in receipts}) == 100
    assert len(way.sent) <= 2


async def test_a_batch_has_limits(way: Way) -> None:
    """500 jobs or 1 MiB; a job larger than that goes alone."""
    async with sending(way) as producer:
        await together(1200, lambda: producer.submit(job()))
        await together(8, lambda: producer.submit(job(300_000)))
        await producer.submit(job(2 * MAX_BYTES))

    sizes = [(len(batch), sum(map(len, batch))) for _, batch in way.sent]
    assert max(n for n, _ in sizes) == MAX_BATCH
    assert all(size <= MAX_BYTES or n == 1 for n, size in sizes)
    assert way.jobs == 1209


async def test_few_batches_are_on_the_way_at_once(way: Way) -> None:
    """Enough to hide the round trip, few enough that asks collect meanwhile."""
    way.hold = 0.005
    async with sending(way) as producer:
        await together(5000, lambda: producer.submit(job()))

    assert 2 <= way.peak <= 4


async def test_a_lost_reply_is_made_good_under_the_same_id(way: Way) -> None:
    """The caller does not see it, and no second copy is made."""
    way.faults = [OutcomeUnknown("lost"), OutcomeUnknown("lost again")]
    async with sending(way) as producer:
        (receipt,) = await producer.submit(job())

    assert receipt.job_id == "t:0-0"
    assert way.jobs == 1
    assert len({batch_id for batch_id, _ in way.sent}) == 1


async def test_what_surely_did_not_happen_is_tried_again(way: Way) -> None:
    """As long as there is time."""
    way.faults = [Unavailable("refused"), None]
    async with sending(way) as producer:
        await producer.submit(job())

    assert way.jobs == 1


async def test_no_server_is_unavailable(way: Way) -> None:
    """Nothing was sent, so it is safe to try again; the next caller has its own time."""
    way.is_up = anyio.Event()
    async with sending(way, timeout=0.2) as producer:
        errors = await together(3, lambda: producer.submit(job()))
        with pytest.raises(Unavailable, match=r"could not be reached for 0\.2 s"):
            await producer.submit(job())

    assert [type(e) for e in errors] == [Unavailable] * 3
    assert way.sent == []


async def test_it_waits_for_a_server_that_comes_back(way: Way) -> None:
    """Within enqueue_timeout an outage is only a delay."""
    way.is_up = anyio.Event()
    async with sending(way) as producer, anyio.create_task_group() as tasks:
        tasks.start_soon(producer.submit, job())
        await anyio.wait_all_tasks_blocked()
        way.is_up.set()

    assert way.jobs == 1


async def test_no_reply_in_time_is_unknown_and_can_be_resent(way: Way) -> None:
    """The error's resend gives what the call would have given, under the same id."""
    way.hold = 10
    async with sending(way, timeout=0.2) as producer:
        with pytest.raises(BatchUnknown, match=r"may be stored: .* never makes a second copy") as caught:
            await producer.submit(job())
        way.hold = 0
        (receipt,) = await caught.value.resend()
        again = await caught.value.resend()

    assert again == [receipt]
    assert way.jobs == 1
    assert [batch_id for batch_id, _ in way.sent] == [way.sent[0][0]] * 2


async def test_each_caller_of_a_lost_batch_can_resend(way: Way) -> None:
    """They share the batch, and each gets its own job."""
    way.faults = [OutcomeUnknown("lost")] * 50
    async with sending(way, timeout=0.2) as producer:
        errors = await together(5, lambda: producer.submit(job()))
        way.faults = []
        receipts = [(await error.resend())[0].job_id for error in errors]

    assert all(isinstance(error, SubmitUnknown) for error in errors)
    assert len(set(map(id, errors))) == 5
    assert len(set(receipts)) == 5
    assert way.jobs == 5


async def test_a_resend_may_fail_again(way: Way) -> None:
    """It stays unknown, and stays safe."""
    way.faults = [OutcomeUnknown("lost")] * 4
    async with sending(way, timeout=0.2) as producer:
        with pytest.raises(BatchUnknown) as first:
            await producer.submit(job())
        way.faults = [OutcomeUnknown("lost")] * 4
        with pytest.raises(BatchUnknown) as second:
            await first.value.resend()
        way.faults = []
        await second.value.resend()

    assert way.jobs == 1


async def test_resends_at_the_same_time_are_one(way: Way) -> None:
    """Two tasks that hold the same error get the same answer, from one request."""
    way.hold = 10
    async with sending(way, timeout=0.2) as producer:
        with pytest.raises(BatchUnknown) as caught:
            await producer.submit(job())
        way.hold = 0
        receipts = await together(3, caught.value.resend)

    assert [r for (r,) in receipts] == [Receipt("t:0-0", True)] * 3
    assert len(way.sent) == 2


async def test_a_resend_outlives_the_opening(app: flowq.App[None]) -> None:
    """An app that was left and entered again sends the very same batch."""
    way = Way()
    way.faults = [OutcomeUnknown("lost")] * 9

    async def enter_and(call: Callable[[], Any]) -> Any:
        async with app:
            app.session().producer._backend = cast("Backend", way)
            app.session().producer._timeout = 0.2
            return await call()

    with pytest.raises(SubmitUnknown) as caught:
        await enter_and(lambda: app.enqueue("work"))
    way.faults = []
    job = await enter_and(caught.value.resend)

    assert job.id == "t:0-0"
    assert way.jobs == 1
    assert len({batch_id for batch_id, _ in way.sent}) == 1


async def test_a_late_resend_is_refused(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have forgotten the batch: sending it again could store its jobs twice."""
    way.hold = 10
    async with sending(way, timeout=0.2) as producer:
        with pytest.raises(BatchUnknown) as caught:
            await producer.submit(job())
        monkeypatch.setattr("flowq._producer.RESEND_WINDOW", -1.0)
        with pytest.raises(Unavailable, match="could store its jobs twice"):
            await caught.value.resend()

    assert len(way.sent) == 1


async def test_a_refusal_is_told_at_once(way: Way) -> None:
    """A full server is not asked again and again; each caller has an error of its own."""
    way.faults = [ServerFull("maxmemory")]
    async with sending(way) as producer:
        errors = await together(3, lambda: producer.submit(job()))

    assert [type(e) for e in errors] == [ServerFull] * 3
    assert len(set(map(id, errors))) == 3
    assert len(way.sent) == 1


async def test_a_refusal_after_a_lost_reply_stays_unknown(way: Way) -> None:
    """The first request may have stored what the second was refused for."""
    way.faults = [OutcomeUnknown("lost"), ServerFull("maxmemory")]
    async with sending(way) as producer:
        with pytest.raises(BatchUnknown, match="maxmemory"):
            await producer.submit(job())


async def test_cancelled_before_the_write_it_is_withdrawn(way: Way) -> None:
    """The others of the batch to be are not touched."""
    way.is_up = anyio.Event()
    async with sending(way) as producer, anyio.create_task_group() as tasks:
        tasks.start_soon(producer.submit, job(1))
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.005) as scope:
            await producer.submit(job(2))
        way.is_up.set()

    assert scope.cancelled_caught
    assert [batch for _, batch in way.sent] == [[b"x"]]


async def test_cancelled_after_the_write_it_stays(way: Way) -> None:
    """The request has left; the caller only stops waiting, and the others get their answer."""
    way.hold = 0.02
    async with sending(way) as producer, anyio.create_task_group() as tasks:
        tasks.start_soon(producer.submit, job(1))
        with anyio.move_on_after(0.005) as scope:
            await producer.submit(job(2))

    assert scope.cancelled_caught
    assert way.jobs == 2


async def test_a_cancelled_caller_submits_nothing(way: Way) -> None:
    """submit is a checkpoint even if it need not wait."""
    async with sending(way) as producer:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await producer.submit(job())
        await anyio.wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert way.sent == []


async def test_closing_tells_everybody_what_is_known(way: Way) -> None:
    """What was not sent surely is not stored; what was may be."""
    producer = Producer(cast("Backend", way), timeout=5)
    way.hold = 10
    results: list[Any] = []

    async def submit() -> None:
        try:
            await producer.submit(job())
        except FlowqError as error:
            results.append(type(error))

    async with anyio.create_task_group() as callers:
        async with anyio.create_task_group() as senders:
            producer.start(senders)
            callers.start_soon(submit)
            await anyio.wait_all_tasks_blocked()
            way.is_up = anyio.Event()
            callers.start_soon(submit)
            await anyio.wait_all_tasks_blocked()
            senders.cancel_scope.cancel()
        producer.close(None)

    assert sorted(results, key=str) == [flowq.NotEntered, BatchUnknown]
    with pytest.raises(flowq.NotEntered):
        await producer.submit(job())


async def test_leaving_waits_for_what_is_on_the_way(app: flowq.App[None]) -> None:
    """A background task's submit is not lost because the app is left at that moment."""
    jobs, begun = [], []

    async def submit() -> None:
        begun.append(1)
        jobs.append(await app.enqueue("work"))

    async with anyio.create_task_group() as tasks, app:
        for _ in range(50):
            tasks.start_soon(submit)
        while len(begun) < 50:
            await anyio.lowlevel.checkpoint()

    assert len(jobs) == 50


async def test_the_users_handle_of_a_lost_submit(app: flowq.App[None]) -> None:
    """err.resend() of enqueue gives a job, of enqueue_many all jobs: those before, those in question, and the rest."""

    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        way = Way()
        app.session().producer._backend = cast("Backend", way)
        app.session().producer._timeout = 0.2
        way.faults = [OutcomeUnknown("lost")] * 9
        with pytest.raises(SubmitUnknown) as one:
            await work.enqueue(1)
        way.faults = []
        job = await one.value.resend()
        way.faults = [None, *[OutcomeUnknown("lost")] * 9]
        with pytest.raises(SubmitUnknown) as many:
            await app.enqueue_many(work.bind(n) for n in range(1100))
        way.faults = []
        jobs = await many.value.resend()

    assert isinstance(job, flowq.Job)
    assert len(many.value.accepted) == 500
    assert len({j.id for j in [job, *jobs]}) == 1101 == way.jobs
    assert list(many.value.accepted) == jobs[:500]


def test_chunks_keep_order_and_limits() -> None:
    """What shall be submitted is cut into what a batch may hold, and nothing is lost."""

    class Item:
        def __init__(self, n: int, size: int) -> None:
            self.n, self.submission = n, Submission("t", b"x" * size)

    items = [Item(n, 400_000 if n % 3 == 0 else 10) for n in range(1000)] + [Item(1000, 3 * MAX_BYTES)]

    cut = list(chunks(items))

    assert [item.n for chunk in cut for item in chunk] == list(range(1001))
    assert all(
        len(c) <= MAX_BATCH and (sum(len(i.submission.envelope) for i in c) <= MAX_BYTES or len(c) == 1)
        for c in cut
    )
