"""Submitting without an event loop. Over the memory place each call goes through the app's loop; Redis has its own file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import flowq
from flowq._errors import FlowqError, OutcomeUnknown, ServerFull, SubmitUnknown, Unavailable
from flowq._model import Receipt, Submission
from flowq._sync import SyncProducer
from tests.app.hand_worker import HandWorker


@pytest.fixture
async def worker(app: flowq.App[None]) -> AsyncIterator[HandWorker]:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    async with app:
        worker = HandWorker(app)
        await worker.join()
        yield worker
        await worker.leave()


class LossyPlace:
    """A blocking place that loses what it is told to lose."""

    def __init__(self, *faults: FlowqError | None) -> None:
        self.faults = list(faults)
        self.sent: list[str] = []
        self.closed = 0

    def submit(self, batch_id: str, batch: list[Submission]) -> list[Receipt]:
        self.sent.append(batch_id)
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        return [Receipt(f"double:{i}-0", True) for i in range(len(batch))]

    def close(self) -> None:
        self.closed += 1


def producer_over(place: LossyPlace, timeout: float = 0.2) -> tuple[SyncProducer, Callable[[int], Any]]:
    app: flowq.App[None] = flowq.App("shop", "memory://")

    @app.task
    def double(n: int) -> int:
        return 2 * n

    return SyncProducer(app, place, timeout=timeout), double.bind  # type: ignore[arg-type]  # it needs only these calls


async def test_a_plain_body_may_submit(app: flowq.App[None], worker: HandWorker) -> None:
    """From a thread, and wait for the result there."""
    double: Any = app.ref("double")

    def body() -> tuple[Any, ...]:
        with app.sync() as producer:
            job = producer.enqueue(double.bind(21))
            before = job.status()
            many = producer.enqueue_many(double.bind(n) for n in range(600))
            anyio.from_thread.run(work)
            return before, job.result(timeout=5), many[599].result(), producer.job(job.id).result(timeout=0)

    async def work() -> None:
        while await worker.work():
            pass

    assert await anyio.to_thread.run_sync(body) == (flowq.JobStatus.READY, 42, 1198, 42)


async def test_a_thread_may_cancel(app: flowq.App[None], worker: HandWorker) -> None:
    """The answers are those of Job."""
    double: Any = app.ref("double")

    def body() -> tuple[Any, ...]:
        job = app.sync().enqueue(double.options(delay=60).bind(1))
        with pytest.raises(TimeoutError):
            job.result(timeout=0.001)
        answer = job.cancel("no", wait=True)
        with pytest.raises(flowq.JobCancelled, match="no"):
            job.result()
        nothing = app.sync().job("nosuch")
        return answer, job.status(), nothing.status(), nothing.cancel()

    assert await anyio.to_thread.run_sync(body) == ("removed", "cancelled", "unknown", "unknown")


def test_lost_replies_are_made_good() -> None:
    """Under one id, within enqueue_timeout."""
    place = LossyPlace(OutcomeUnknown("lost"), Unavailable("down"), None)
    producer, bind = producer_over(place, timeout=5)

    job = producer.enqueue(bind(1))

    assert job.id == "double:0-0"
    assert len(place.sent) == 3
    assert len(set(place.sent)) == 1


def test_what_may_be_stored_can_be_resent() -> None:
    """The producer's resend; the error's own one works in an event loop."""
    place = LossyPlace(*[OutcomeUnknown("lost")] * 9)
    producer, bind = producer_over(place)
    with pytest.raises(SubmitUnknown, match=r"producer.resend\(err\)") as caught:
        producer.enqueue(bind(1))
    place.faults = []

    (job,) = producer.resend(caught.value)
    (again,) = anyio.run(caught.value.resend)

    assert job == again
    assert len(set(place.sent)) == 1


def test_what_is_surely_not_stored_says_so() -> None:
    """No server in time, and a full one at once."""
    producer, bind = producer_over(place := LossyPlace(*[Unavailable("down")] * 9))
    with pytest.raises(Unavailable, match=r"nothing was stored: .* \(enqueue_timeout\): down"):
        producer.enqueue(bind(1))

    place.faults, place.sent = [ServerFull("maxmemory")], []
    with pytest.raises(ServerFull):
        producer.enqueue(bind(1))
    assert len(place.sent) == 1


def test_enqueue_many_says_how_far_it_came() -> None:
    """The error carries the jobs of the chunks before it."""
    producer, bind = producer_over(LossyPlace(None, ServerFull("maxmemory")))

    with pytest.raises(ServerFull) as caught:
        producer.enqueue_many(bind(n) for n in range(600))

    assert len(caught.value.accepted) == 500


def test_errors_of_the_other_kind_are_not_taken() -> None:
    """An asynchronous producer's error has its own resend."""
    producer, _ = producer_over(LossyPlace())

    async def resend() -> None: ...

    with pytest.raises(TypeError, match=r"await err.resend\(\)"):
        producer.resend(SubmitUnknown("x", resend))


def test_leaving_gives_the_connections_back() -> None:
    """And the producer may be used again."""
    producer, bind = producer_over(place := LossyPlace())

    with producer:
        producer.enqueue(bind(1))
    producer.enqueue(bind(2))

    assert place.closed == 1


def test_without_a_loop_memory_has_no_place() -> None:
    """memory:// lives in the event loop in which its app is open."""
    producer = flowq.App("shop", "memory://").sync()

    with pytest.raises(flowq.NotEntered):
        producer.job("work:1-0").status()


async def test_the_loop_itself_is_not_blocked(app: flowq.App[None], worker: HandWorker) -> None:
    """In the event loop there is a better way, and the error names it."""
    with pytest.raises(flowq.NotEntered, match=r"await task.enqueue"):
        app.sync().job("double:1-0").status()
