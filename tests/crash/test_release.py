"""A deploy and its rollback: two versions of one app as workers and producers at once, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import redis

from tests.conftest import RedisServer, running_redis
from tests.crash import witness

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


@attrs.define
class Deploy:
    """Starts and ends processes of either version."""

    server: RedisServer
    folder: Path
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "FLOWQ_URL": self.server.url,
            "FLOWQ_BODIES": str(self.folder / "bodies"),
            "FLOWQ_SUBMITTED": str(self.folder / "submitted"),
        }
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "tests.crash.release", *words]
            self.processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log))
        return self.processes[-1]

    def workers(self, version: str) -> list[subprocess.Popen[bytes]]:
        """One on each event loop; they serve when this returns."""
        before = self.serving()
        started = [self.start(version, "worker", backend) for backend in ("trio", "asyncio")]
        eventually(lambda: self.serving() == before + 2, "they serve")
        return started

    def serving(self) -> int:
        """Workers that have begun to serve so far."""
        log = self.folder / "log"
        return log.read_text().count(" of app release serves ") if log.exists() else 0

    @staticmethod
    def end(*processes: subprocess.Popen[bytes]) -> None:
        """SIGTERM: workers drain, producers finish what they are at."""
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [0] * len(processes)

    def bodies(self) -> list[witness.Body]:
        return witness.read(self.folder / "bodies") if (self.folder / "bodies").exists() else []

    def done(self, task: str, *, new: bool) -> int:
        """How many jobs of a version's producers have run to their last line."""
        return sum(b.finished and b.task == task and (b.number >= 100_000) is new for b in self.bodies())

    def submitted(self) -> Counter[tuple[str, int]]:
        lines = [line.split() for line in (self.folder / "submitted").read_text().splitlines()]
        return Counter((task, int(number)) for _, _, _, task, number in lines)


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Deploy]:
    with running_redis() as server:
        made = Deploy(server, tmp_path)
        yield made
        for process in made.processes:
            process.kill()
            process.wait(10)


def eventually(look: object, what: str, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not look():  # type: ignore[operator]
        assert time.monotonic() < end, f"not seen within {seconds} s: {what}"
        time.sleep(0.05)


def outstanding(client: redis.Redis) -> dict[str, int]:
    """Task → jobs that have not ended, the delayed ones among them."""
    left = Counter(
        {key.rpartition(":")[2]: client.xlen(key) for key in client.scan_iter(match="flowq:{release}:s:*")}
    )
    left.update(job.partition(":")[0] for job in client.zrange("flowq:{release}:delayed", 0, -1))
    return {task: n for task, n in left.items() if n}


def limit(client: redis.Redis) -> str | None:
    return client.hget("flowq:{release}:limits", "resize")


def test_a_deploy_and_its_rollback(deploy: Deploy) -> None:
    """Version N and N+1, with a new argument, another limit, a new task and a newer format: both produce and work at once; N leaves;
    N+1 is rolled back; N+1 comes again. No job dies or is lost, each runs to its end once, and the smaller limit holds while both are
    there. What only N+1 can run waits for it.
    """
    with deploy.server.client() as client:
        old_workers, old_producer = deploy.workers("old"), deploy.start("old", "producer")
        eventually(lambda: deploy.done("resize", new=False) > 20, "the old version works")

        both_from = time.monotonic()
        new_workers, new_producer = deploy.workers("new"), deploy.start("new", "producer")
        for task in ("resize", "email", "render"):
            eventually(lambda task=task: deploy.done(task, new=True) > 20, f"{task} of the new one is done")
        assert limit(client) == "2"
        both_until = time.monotonic()
        deploy.end(*old_workers)
        eventually(lambda: limit(client) == "4", "the new version's limit is in force")
        before = deploy.done("email", new=False)
        eventually(lambda: deploy.done("email", new=False) > before + 20, "it runs the old producer's jobs")

        old_workers = deploy.workers("old")
        eventually(lambda: limit(client) == "2", "the old version is back")
        deploy.end(new_producer)
        deploy.end(*new_workers)
        before = deploy.done("resize", new=False)
        eventually(lambda: deploy.done("resize", new=False) > before + 20, "the old version works alone")
        deploy.end(old_producer)
        assert client.xlen("flowq:{release}:dead") == 0

        new_workers = deploy.workers("new")
        deploy.end(*old_workers)
        eventually(lambda: not outstanding(client), "all jobs have ended")
        deploy.end(*new_workers)
        assert client.xlen("flowq:{release}:dead") == 0
    bodies = deploy.bodies()
    assert Counter((b.task, b.number) for b in bodies if b.finished) == deploy.submitted()
    assert all(body.finished for body in bodies)
    assert witness.peak(bodies, "resize", died={}) <= 4
    together = [body for body in bodies if both_from <= body.start < both_until]
    assert witness.peak(together, "resize", died={}) <= 2
    print(f"{len(bodies)} bodies, {sum(b.number >= 100_000 for b in bodies)} of the new version's producers")  # noqa: T201 -- a figure
