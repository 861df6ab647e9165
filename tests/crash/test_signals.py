"""Signals to real worker processes on a real server: what ends how fast, and that no job notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
import redis

import flowq
from tests.conftest import RedisServer, leaks, running_redis
from tests.crash import witness
from tests.crash.fleet import ROOT

pytestmark = [pytest.mark.crash, pytest.mark.timeout(60)]

TTL = 2.0
SOON = 3.0
"""Seconds that an idle worker may take to end at most; the aim is 0.3, which is printed and not asserted."""

JOBS = 40

BY_HAND = "import {loop}, flowq; from tests.crash.app import app; {run}"
RUNS = {
    "trio": BY_HAND.format(loop="trio", run="trio.run(flowq.run, app)"),
    "asyncio": BY_HAND.format(loop="asyncio", run="asyncio.run(flowq.run(app))"),
}
"""A worker as its user's own program runs it: no supervisor, no handler of ours."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis("--appendonly", "yes") as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as found:
        yield found


@contextmanager
def process(server: RedisServer, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with the crash tests' app at hand; killed at the end if it is still there."""
    env = {
        **os.environ,
        "FLOWQ_URL": server.url,
        "FLOWQ_WITNESS": str(folder / "witness.log"),
        "FLOWQ_TEST_TTL": str(TTL),
    }
    (folder / "witness.log").touch()
    with (folder / "log").open("ab") as log, ExitStack() as stack:
        started = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )
        stack.callback(started.wait, 10)
        stack.callback(started.kill)
        yield started


def until(condition: Callable[[], object], what: str, log: Path, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not seen: {what}\n{log.read_text()[-3000:]}"
        time.sleep(0.005)


def joined(client: redis.Redis) -> bool:
    return int(client.zcard("flowq:{crash}:members")) == 2


def submit(server: RedisServer, task: str, *calls: tuple[object, ...]) -> list[str]:
    app: flowq.App[None] = flowq.App("crash", server.url)
    with app.sync() as producer:
        return [producer.enqueue(app.ref(task).bind(*call)).id for call in calls]


def ended(running: subprocess.Popen[bytes], number: signal.Signals, log: Path) -> float:
    """Send a signal to an idle worker; returns the seconds until its process is gone."""
    began = time.monotonic()
    running.send_signal(number)
    try:
        running.wait(SOON)
    except subprocess.TimeoutExpired:
        pytest.fail(f"still there {SOON} s after {number.name}\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_flowq_run_ends_at_once_when_idle(
    server: RedisServer, client: redis.Redis, tmp_path: Path, backend: str, number: signal.Signals
) -> None:  # fmt: skip
    """``flowq run`` with an idle worker: drained, exit code 0, nothing left behind."""
    log = tmp_path / "log"
    with process(
        server, tmp_path, "-m", "flowq", "run", "tests.crash.app:app", "--backend", backend
    ) as running:
        until(lambda: joined(client), "the worker has joined", log)
        time.sleep(0.2)
        seconds = ended(running, number, log)
    print(f"flowq run on {backend}, idle, {number.name}: gone after {seconds:.3f} s")  # noqa: T201 -- a figure
    assert running.returncode == 0
    assert leaks(client, "crash") == []


def test_ctrl_c_ends_a_plain_worker_when_idle(
    server: RedisServer, client: redis.Redis, tmp_path: Path, backend: str
) -> None:
    """``trio.run(flowq.run, app)`` and asyncio's way, SIGINT while it waits for the doorbell: it leaves the fleet, and says
    KeyboardInterrupt as any program does.
    """
    log = tmp_path / "log"
    with process(server, tmp_path, "-c", RUNS[backend]) as running:
        until(lambda: joined(client), "the worker has joined", log)
        time.sleep(0.2)
        seconds = ended(running, signal.SIGINT, log)
    print(f"flowq.run on {backend}, idle, SIGINT: gone after {seconds:.3f} s")  # noqa: T201 -- a figure
    assert log.read_text().rstrip().endswith("KeyboardInterrupt")
    assert client.zrange("flowq:{crash}:members", 0, -1) == [""]
    assert leaks(client, "crash") == []


def test_ctrl_c_in_a_body_that_computes(
    server: RedisServer, client: redis.Redis, tmp_path: Path, backend: str
) -> None:
    """SIGINT strikes a body that computes: the worker drains and its process ends; the job that was struck goes back, uncounted, and
    runs to its end in the next worker. None is lost, none is a dead letter.
    """
    log, seen = tmp_path / "log", tmp_path / "witness.log"
    ids = submit(server, "cpu", *((n, 0.1) for n in range(JOBS)))
    with process(server, tmp_path, "-c", RUNS[backend]) as running:
        until(lambda: len(witness.completions(witness.read(seen), "cpu")) >= 3, "some have run", log)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        running.wait(20)
        print(f"flowq.run on {backend}, computing, SIGINT: gone after {time.monotonic() - began:.3f} s")  # noqa: T201 -- a figure
    assert log.read_text().rstrip().endswith("KeyboardInterrupt")
    assert client.zrange("flowq:{crash}:members", 0, -1) == [""]
    done = set(witness.completions(witness.read(seen), "cpu"))
    assert 3 <= len(done) < JOBS
    assert int(client.hget("flowq:{crash}:stats:cpu", "succeeded") or 0) == len(done)
    with process(server, tmp_path, "-m", "tests.crash.worker", backend) as running:
        until(lambda: len(witness.completions(witness.read(seen), "cpu")) == JOBS, "all have run", log)
        until(lambda: not client.xlen("flowq:{crash}:s:cpu"), "all are settled", log)
        running.send_signal(signal.SIGINT)
        running.wait(10)
    assert client.xlen("flowq:{crash}:dead") == 0
    assert int(client.hget("flowq:{crash}:stats:cpu", "crashed") or 0) == 0
    assert results(server, ids) == list(range(JOBS))
    assert leaks(client, "crash") == []


def test_ctrl_c_while_flowq_itself_is_busy(
    server: RedisServer, client: redis.Redis, tmp_path: Path, backend: str
) -> None:
    """With bodies of a few microseconds SIGINT finds our own code at work. It costs neither connection nor membership: the worker hands
    back what it holds and leaves, uncounted; nothing is lost.
    """
    log = tmp_path / "log"
    app: flowq.App[None] = flowq.App("crash", server.url)
    with app.sync() as producer:
        for _ in range(40):
            producer.enqueue_many(app.ref("instant").bind(0.0) for _ in range(500))

    def succeeded() -> int:
        return int(client.hget("flowq:{crash}:stats:instant", "succeeded") or 0)

    for life in range(3):
        with process(server, tmp_path, "-c", RUNS[backend]) as running:
            wanted = succeeded() + 500 + 300 * life
            until(partial(lambda count: succeeded() > count, wanted), "it works", log)
            running.send_signal(signal.SIGINT)
            running.wait(10)
        assert log.read_text().rstrip().endswith("KeyboardInterrupt")
        assert client.zrange("flowq:{crash}:members", 0, -1) == [""], log.read_text()[-5000:]
        assert client.xlen("flowq:{crash}:s:instant") == 20_000 - succeeded()
    assert int(client.hget("flowq:{crash}:stats:instant", "crashed") or 0) == 0
    assert client.xlen("flowq:{crash}:dead") == 0


def results(server: RedisServer, ids: list[str]) -> list[object]:
    async def ask() -> list[object]:
        app: flowq.App[None] = flowq.App("crash", server.url)
        async with app:
            return [await app.job(job_id).result(timeout=2) for job_id in ids]

    return anyio.run(ask)


def test_sigterm_to_flowq_run_with_redis_dead(
    server: RedisServer, client: redis.Redis, tmp_path: Path, backend: str
) -> None:
    """Nobody answers: the worker does not wait for it."""
    log = tmp_path / "log"
    with process(
        server, tmp_path, "-m", "flowq", "run", "tests.crash.app:app", "--backend", backend
    ) as running:
        until(lambda: joined(client), "the worker has joined", log)
        server.process.kill()
        server.process.wait()
        time.sleep(0.3)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        running.wait(10)
        seconds = time.monotonic() - began
    print(f"flowq run on {backend}, Redis dead, SIGTERM: gone after {seconds:.3f} s")  # noqa: T201 -- a figure
    assert seconds < 2 * SOON
