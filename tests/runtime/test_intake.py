"""How much a worker takes, when it asks, and that an idle one costs nothing. In virtual time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import current_token

from flowq._model import Exchanged, JobStatus, Want
from flowq._runtime.intake import AFTER_EXCESS
from flowq._runtime.reader import SAFETY_POLL
from flowq._runtime.worker import Worker
from flowq.testing.faults import Call, Delay, Fault
from tests.backends.virtual_loop import VirtualLoop
from tests.runtime.conftest import Stage, eventually, virtually

pytestmark = virtually


def recorded_wants(worker: Worker) -> list[Want | None]:
    """What the worker asks for from now on."""
    intake, wants = worker._crew.intake, []
    original = intake.want

    def want(now: float) -> Want | None:
        wants.append(original(now))
        return wants[-1]

    intake.want = want  # type: ignore[method-assign]
    return wants


async def test_long_jobs_are_shared_not_hoarded(stage: Stage) -> None:
    """2 workers, N = 10, 40 jobs of 1 s: both run 20 (CORRECTIONS 1.11)."""
    ran: Counter[str] = Counter()
    apps = [stage.app() for _ in range(2)]
    for app in apps:

        @app.task
        async def long(app_number: int = apps.index(app)) -> None:
            ran[str(app_number)] += 1
            await anyio.sleep(1)

    client = stage.app()

    @client.task(name="long")
    async def long_elsewhere() -> None: ...

    async with client:
        for app in apps:
            await stage.start(app, concurrency=10)
        begin = anyio.current_time()
        jobs = await client.enqueue_many([long_elsewhere.bind() for _ in range(40)])
        for job in jobs:
            await job.result(timeout=60)
        assert anyio.current_time() - begin < 2.3
    assert ran == {"0": 20, "1": 20}


async def test_short_jobs_are_taken_ahead_and_long_ones_are_given_back(stage: Stage) -> None:
    """What will start within 20 ms may wait here; when the guess was wrong, what waits goes back to whoever has room."""
    app = stage.app()
    ahead: list[int] = []
    seconds = 0.002

    @app.task(results=False)
    async def job() -> None:
        ahead.append(len(worker._crew.floor.ready))
        await anyio.sleep(seconds)

    async with app:
        worker = await stage.start(app, concurrency=10)
        await app.enqueue_many([job.bind() for _ in range(2000)])
        await eventually(lambda: worker.stats().succeeded > 1000, 60)
        assert 20 < max(ahead) <= 400
        seconds = 5
        await anyio.sleep(0.1)
        assert not worker._crew.floor.ready
        assert worker.stats().running == 10
        handed_back = worker.stats().handed_back
        assert 0 < handed_back <= 400
        await anyio.sleep(4)
        assert worker.stats().handed_back == handed_back


def compute(seconds: float) -> None:
    """Take the event loop for so long, in virtual time."""
    native: Any = current_token().native_token
    if isinstance(native, VirtualLoop):
        native._leaping.now += seconds
    else:
        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]  # it is a MockClock


@pytest.mark.parametrize("limit", [None, 30])
async def test_jobs_that_compute_are_not_hoarded(stage: Stage, limit: int | None) -> None:
    """They run one after the other, however many consumers are free: what waits behind them could run elsewhere."""
    app = stage.app()
    held: list[int] = []

    @app.task(limit=limit, results=False)
    async def job() -> None:
        held.append(worker.stats().waiting)
        compute(0.020)

    async with app:
        worker = await stage.start(app, concurrency=32)
        await app.enqueue_many([job.bind() for _ in range(100)])
        await eventually(lambda: len(held) == 100, 60)
    assert max(held[10:]) <= 4


async def test_waiting_jobs_fill_all_consumers(stage: Stage) -> None:
    """After a job that computed the worker still takes as many that wait as it has consumers, and at once."""
    app = stage.app()
    started: list[float] = []

    @app.task(results=False)
    async def job(seconds: float) -> None:
        compute(seconds)
        started.append(anyio.current_time())
        await anyio.sleep(10)

    async with app:
        worker = await stage.start(app, concurrency=100)
        await app.enqueue_many([*(job.bind(0.05) for _ in range(5)), *(job.bind(0.0) for _ in range(95))])
        await eventually(lambda: worker.stats().running == 100, 9)
        assert started[-1] - started[4] < 0.05


async def test_a_limited_lane_is_never_taken_ahead(stage: Stage) -> None:
    """What waits in a worker would hold a token that somebody else could use."""
    app = stage.app()
    ahead: list[int] = []

    @app.task(limit=50, results=False)
    async def job() -> None:
        ahead.append(worker.stats().waiting + worker.stats().running)
        await anyio.sleep(0.001)

    async with app:
        worker = await stage.start(app, concurrency=5)
        wants = recorded_wants(worker)
        await app.enqueue_many([job.bind() for _ in range(500)])
        await eventually(lambda: worker.stats().succeeded == 500, 60)
    assert max(ahead) <= 5
    assert all(want.extra == {} for want in wants if want is not None)


async def test_a_server_that_grants_too_much_is_asked_once_a_second(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is above the limit goes back, and the worker holds off: grant and refusal do not chase each other. Other tasks' jobs
    still run, and it all ends when the server is right again.
    """
    app = stage.app()
    is_wrong = True

    @app.task(limit=4)
    async def limited() -> None:
        await anyio.sleep(12)

    @app.task
    async def other() -> None: ...

    async with app:
        worker = await stage.start(app, concurrency=8)
        await anyio.sleep(0.5)
        stream = worker._crew.backend.stream
        original = type(stream).exchange

        async def lowers(self: Any, *args: Any) -> Exchanged:
            """What the worker hears of the limit is less than what was granted by."""
            assert worker.stats().turns < 200, "the worker spins"
            answer: Exchanged = await original(self, *args)
            if is_wrong and answer.claimed is not None and "limited" in answer.claimed.limits:
                answer.claimed.limits["limited"] = 1
            return answer

        monkeypatch.setattr(type(stream), "exchange", lowers)
        jobs = await app.enqueue_many([limited.bind() for _ in range(4)])
        await anyio.sleep(0.2)
        begin = anyio.current_time()
        await (await other.enqueue()).result(timeout=10)
        assert anyio.current_time() - begin <= AFTER_EXCESS + 0.01
        await anyio.sleep(10)
        assert worker.stats().running == 1
        assert 3 * 10 <= worker.stats().handed_back <= 3 * 12
        assert [r for r in caplog.records if getattr(r, "event", "") == "limit.exceeded"]
        is_wrong = False
        for job in jobs:
            await job.result(timeout=60)
        assert worker.stats().turns < 60


async def test_an_idle_worker_asks_once_a_second(stage: Stage) -> None:
    """Nothing polls while idle but the safety poll: one claim a second, whatever else the worker does."""
    app = stage.app()

    @app.task(limit=3)
    async def job() -> None: ...

    @app.task
    async def other() -> None: ...

    async with app:
        worker = await stage.start(app)
        await anyio.sleep(5)
        before = worker.stats().turns
        await anyio.sleep(100)
        assert worker.stats().turns - before <= 100 / SAFETY_POLL + 2


async def test_a_lost_ring_costs_one_poll(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a ring told that nobody heard is found a second after the worker's last look, whatever woke its reader meanwhile."""
    app = stage.app()
    started: list[float] = []

    @app.task
    async def job() -> None:
        started.append(anyio.current_time())

    async with app:
        worker = await stage.start(app)
        await eventually(lambda: worker._crew.intake.is_listening)
        stream = worker._crew.backend.stream

        async def deaf(self: object, me: object, block: float) -> bool:
            with anyio.move_on_after(block):
                await anyio.sleep(0.3)  # as somebody's late CLIENT UNBLOCK would do
            return False

        monkeypatch.setattr(type(stream), "wait_ring", deaf)
        stream.stop_waiting()
        for pause in (0.0, 0.4, 1.7):
            await anyio.sleep(pause)
            begin = anyio.current_time()
            await (await job.enqueue()).result(timeout=10)
            assert started[-1] - begin <= SAFETY_POLL + 0.01


async def test_a_new_job_starts_at_once_on_an_idle_worker(stage: Stage) -> None:
    """The doorbell, not the safety poll, brings it."""
    app = stage.app()
    started: list[float] = []

    @app.task(limit=3)
    async def job() -> None:
        started.append(anyio.current_time())

    async with app:
        await stage.start(app)
        for _ in range(5):
            await anyio.sleep(3.3)
            begin = anyio.current_time()
            await (await job.enqueue()).result(timeout=5)
            assert started[-1] - begin < 0.01


async def test_a_freed_token_is_used_again_at_once(stage: Stage) -> None:
    """Work-conserving: 30 jobs of 0.1 s under a limit of 3 take 1 s, on one worker and on three."""
    for workers in (1, 3):
        app = stage.app()

        @app.task(limit=3, name=f"job{workers}")
        async def job() -> None:
            await anyio.sleep(0.1)

        async with app:
            for _ in range(workers):
                await stage.start(app)
            begin = anyio.current_time()
            for handle in await app.enqueue_many([job.bind() for _ in range(30)]):
                await handle.result(timeout=60)
            assert anyio.current_time() - begin < 1.1


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.1, id="no detour over the doorbell"),
        pytest.param(0.7, id="no safety poll besides"),
    ],
)
async def test_a_freed_token_is_used_again_by_the_same_round_trip(stage: Stage, seconds: float) -> None:
    """The claim goes with the settle that frees the token: one turn a job, not two. Such a claim sees whatever there is, so the safety
    poll counts from the last one.
    """
    app = stage.app()

    @app.task(limit=1)
    async def job() -> None:
        await anyio.sleep(seconds)

    async with app:
        worker = await stage.start(app)
        await anyio.sleep(0.5)
        before = worker.stats().turns
        for handle in await app.enqueue_many([job.bind() for _ in range(20)]):
            await handle.result(timeout=60)
        assert worker.stats().turns - before <= 20 + 2


async def test_a_delayed_job_starts_when_it_is_due(stage: Stage) -> None:
    """p99 lateness of ``delay=1`` on an idle fleet is 50 ms at most, and a sooner one wakes sleepers, too."""
    app = stage.app()
    late: list[float] = []

    @app.task
    async def job(due: float) -> None:
        late.append(anyio.current_time() - due)

    async with app:
        for _ in range(3):
            await stage.start(app)
        await job.options(delay=100).enqueue(anyio.current_time() + 100)
        for i in range(50):
            await job.options(delay=1).enqueue(anyio.current_time() + 1)
            await anyio.sleep(0.37 + i / 1000)
        await anyio.sleep(2)
        assert len(late) == 50
        await anyio.sleep(100)
    assert len(late) == 51
    assert min(late) >= -0.001
    assert max(late) <= 0.05


async def test_who_has_room_takes_what_is_due_with_the_call_that_moves_it(stage: Stage) -> None:
    """No detour over promote, ring and claim; a worker without room moves it all the same, for others."""
    app = stage.app()
    late: list[float] = []

    @app.task
    async def job(due: float, seconds: float) -> None:
        late.append(anyio.current_time() - due)
        await anyio.sleep(seconds)

    async with app:
        await stage.start(app, concurrency=1)
        calls = app.line._calls
        for _ in range(3):
            # sooner than the safety poll
            await job.options(delay=0.7).enqueue(anyio.current_time() + 0.7, 0)
            await anyio.sleep(1.5)
        assert len(late) == 3
        assert max(late) <= 0.01
        assert calls["promote"] == 0
        waits = await job.options(delay=1).enqueue(anyio.current_time() + 1, 0)
        await anyio.sleep(0.5)
        await job.enqueue(anyio.current_time(), 10)
        await anyio.sleep(1)
        assert await waits.status() is JobStatus.READY
        assert calls["promote"] == 1


async def test_a_slow_answer_makes_no_job_late(stage: Stage) -> None:
    """How long until the next job is due is told by an answer, and counts from when it was asked for, not from when it was read."""
    late: list[float] = []

    class Slow:
        """While it is on, answers are 0.4 s on their way."""

        is_on = False

        def fault(self, call: Call) -> Fault | None:
            return Delay(back=0.4) if self.is_on and call.name == "exchange" else None

    slow = Slow()
    app, client = stage.app(schedule=slow), stage.app()

    @app.task
    async def job(due: float) -> None:
        late.append(anyio.current_time() - due)

    @client.task(name="job")
    async def job_elsewhere(due: float) -> None: ...

    async with client:
        worker = await stage.start(app)
        await eventually(lambda: worker._crew.intake.is_listening)
        slow.is_on = True
        await job_elsewhere.options(delay=0.7).enqueue(anyio.current_time() + 0.7)
        await anyio.sleep(0.5)  # within these the worker has heard of it
        slow.is_on = False
        await anyio.sleep(1)
    assert len(late) == 1
    assert late[0] <= 0.05


async def test_a_sync_worker_claims_for_free_threads_only(stage: Stage) -> None:
    """What it cannot start stays for others, although it has free consumers."""
    app = stage.app()

    @app.task
    def blocking() -> None: ...

    async with app:
        worker = await stage.start(app, concurrency=8, threads=2)
        wants = recorded_wants(worker)
        for job in await app.enqueue_many([blocking.bind() for _ in range(10)]):
            await job.result(timeout=5)
    assert {want.threads for want in wants if want is not None} <= {0, 1, 2}


async def test_a_ring_that_reaches_a_full_worker_is_passed_on(stage: Stage) -> None:
    """Its reader may hear a ring in the moment in which the last consumer becomes busy: somebody with room hears it next."""
    busy_app, idle_app = stage.app(), stage.app()
    ran: list[str] = []
    for app, name in ((busy_app, "busy"), (idle_app, "idle")):

        @app.task(name="job")
        async def job(seconds: float, name: str = name) -> None:
            ran.append(name)
            await anyio.sleep(seconds)

    async with busy_app:
        busy = await stage.start(busy_app, concurrency=1)
        first = await busy_app.ref("job").enqueue(50)
        await eventually(lambda: busy.stats().running == 1)
        await stage.start(idle_app, concurrency=1)
        await anyio.sleep(0.5)
        wants = recorded_wants(busy)
        second = await busy_app.ref("job").enqueue(0.1)
        busy._crew.intake.heard(rang=True)
        begin = anyio.current_time()
        await second.result(timeout=10)
        assert anyio.current_time() - begin < 0.3
        assert [want for want in wants if want is not None] == [Want(0, 0, {}, ring=True)]
        await first.result(timeout=100)
    assert ran == ["busy", "idle"]


async def test_a_worker_that_becomes_full_stops_listening(stage: Stage) -> None:
    """A ring that it heard would be lost on it: its reader is called back, and listens again when there is room."""
    deaf_app, app = stage.app(), stage.app()
    for each in (deaf_app, app):

        @each.task(name="job")
        async def job() -> None:
            await anyio.sleep(3)

    async with app:
        deaf = await stage.start(deaf_app, concurrency=1)
        await eventually(lambda: deaf._crew.intake.is_listening)
        worker = await stage.start(app, concurrency=1)
        intake = worker._crew.intake
        await eventually(lambda: intake.is_listening)
        deaf_app.line.freeze(10)
        await app.ref("job").enqueue()  # rings for the one that listened first, and that does not hear it
        intake.ask()
        await eventually(lambda: worker.stats().running == 1)
        await anyio.sleep(0.01)
        assert not intake.is_listening
        await eventually(lambda: worker.stats().running == 0, 10)
        await anyio.sleep(0.01)
        assert intake.is_listening


async def test_a_drain_starts_nothing_that_was_taken_ahead(stage: Stage) -> None:
    """What waits in the worker goes back at once; only what runs may go on."""
    app = stage.app()
    started = 0
    seconds = 0.002

    @app.task(results=False)
    async def job() -> None:
        nonlocal started
        started += 1
        await anyio.sleep(seconds)

    async with app:
        worker = await stage.start(app, concurrency=10)
        await app.enqueue_many([job.bind() for _ in range(1000)])
        await eventually(lambda: worker.stats().succeeded > 200 and worker.stats().waiting > 20, 60)
        seconds = 1
        before = started
        await worker.drain()
        assert started == before
        assert worker.stats().handed_back > 20


async def test_a_raised_limit_and_a_resumed_lane_start_at_once(stage: Stage) -> None:
    """Pause, resume and ``set_limit`` are in force without waiting for a poll."""
    app = stage.app()
    running = 0
    most = 0

    @app.task(limit=1)
    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    async with app:
        await stage.start(app)
        await app.pause(job)
        jobs = await app.enqueue_many([job.bind() for _ in range(6)])
        await anyio.sleep(5)
        assert most == 0
        begin = anyio.current_time()
        await app.resume(job)
        await app.set_limit(job, 3)
        for handle in jobs:
            await handle.result(timeout=60)
        assert anyio.current_time() - begin < 3
    assert most == 3


@pytest.mark.parametrize("each", range(4, 16))
async def test_an_empty_lane_does_not_hide_another_ones_work(stage: Stage, each: int) -> None:
    """A claim without room looks only at lanes of known pace; when it finds them empty, the others are looked at as soon as there is
    room, not at the safety poll.
    """
    app = stage.app()
    calls: list[Any] = []
    for n in range(20):

        async def body() -> None:
            await anyio.sleep(0.002)

        task: Any = app.task(name=f"task{n}", results=False)(body)
        calls += [task.bind() for _ in range(each + n % 3)]

    async with app:
        worker = await stage.start(app, concurrency=10)
        begin = anyio.current_time()
        await app.enqueue_many(calls)
        await eventually(lambda: worker.stats().succeeded == len(calls), 60)
    assert anyio.current_time() - begin < SAFETY_POLL / 2
