"""``flowq demo``: the main thing at work on this machine, and the proof of it.

A private redis-server in a temporary directory, ``flowq run`` with four worker processes, 12 ``example`` jobs with limit 3 beside
``email`` jobs without one; a worker process that runs an ``example`` body is SIGKILLed on the way.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import attrs
from rich.console import Console

from flowq._errors import FlowqError
from flowq._runtime.options import lane_policy
from flowq._sync import SyncJob
from flowq.backends.redis import scripts
from flowq.backends.redis.admin import Admin, open_admin
from flowq.backends.redis.embedded import start_embedded
from flowq.backends.redis.fleet import pool_of
from flowq.backends.redis.keys import Keys, app_prefix
from flowq.backends.redis.url import Address, parse_url
from flowq.cli import demo_app
from flowq.cli.demo_proof import Body, Kill, Proof, prove, read_bodies
from flowq.cli.demo_view import Screen
from flowq.cli.show import count

WORKERS: Final = 4
EXAMPLES: Final = demo_app.PARTS
EMAILS: Final = 40
PATIENCE: Final = 60.0
"""Seconds after which the demo gives up on any single step."""
LOOK_EVERY: Final = 0.05


class DemoFailed(FlowqError):
    """A step of the demo did not come to its end."""


@attrs.define
class Demo:
    """One performance. The steps of ``play``, in order."""

    screen: Screen
    seconds: float
    """Length of an ``example`` body."""
    witness: Path
    admin: Admin
    workers: subprocess.Popen[bytes]
    log: Path
    jobs: list[SyncJob[Any]] = attrs.field(factory=list[SyncJob[Any]])

    def wait_for_workers(self) -> None:
        """Until all of them are members of the fleet."""
        self._until(
            f"{WORKERS} worker processes have not come up",
            lambda: (
                sum(w.alive for w in self.admin.snapshot().workers) >= WORKERS
                if self.admin.exists()
                else False
            ),
        )
        self.screen.say(f"{WORKERS} worker processes are up, lease {demo_app.LEASE_TTL:g} s")

    def submit(self) -> None:
        """All jobs at once."""
        with demo_app.app.sync() as producer:
            # one after the other, as long as the example jobs take
            apart = self.seconds * EXAMPLES / demo_app.LIMIT / EMAILS
            emails = [
                demo_app.email.options(delay=apart * n).bind(n, self.seconds / 3) for n in range(EMAILS)
            ]
            examples = [demo_app.example.bind(n, self.seconds) for n in range(EXAMPLES)]
            self.jobs = [*producer.enqueue_many(examples), *producer.enqueue_many(emails)]
        self.screen.say(
            f"{EXAMPLES} example jobs (limit {demo_app.LIMIT}) and {EMAILS} email jobs (no limit) are enqueued"
        )

    def kill_one(self) -> Kill:
        """SIGKILL a worker process in the middle of an ``example`` body, a third of the way."""

        def victim() -> Body | None:
            bodies = self._look()
            done = sum(b.end is not None for b in bodies if b.task == "example")
            if done < EXAMPLES // 3:
                return None
            # a body that has only just begun, so that it cannot end between this look and the kill
            late = time.monotonic() - self.seconds / 2
            running = (b for b in bodies if b.task == "example" and b.end is None)
            return next((b for b in running if b.start > late), None)

        body = self._until("no example body is running", victim)
        at = time.monotonic()
        os.kill(body.pid, signal.SIGKILL)
        self.screen.killed = body.pid
        self._until(f"process {body.pid} does not end", lambda: not _exists(body.pid))
        gone_at = time.monotonic()
        cut = tuple(
            b.job
            for b in read_bodies(self.witness)
            if b.pid == body.pid and b.task == "example" and b.end is None
        )
        self.screen.say(
            f"worker process {body.pid} is SIGKILLed with {count(len(cut), 'example body', 'example bodies')} in it",
            strong=True,
        )
        return Kill(body.pid, at, gone_at, cut)

    def wait_for_all(self) -> list[str]:
        """Until every job has an outcome; returns what was wrong with any."""
        unfinished = {job.id for job in self.jobs}

        def all_done() -> bool:
            self._look()
            for job in self.jobs:
                if job.id in unfinished and job.status().value in {"succeeded", "dead", "cancelled"}:
                    unfinished.discard(job.id)
            return not unfinished

        with demo_app.app.sync():
            try:
                self._until("jobs are outstanding", all_done)
            except DemoFailed:
                return [f"{job_id} has no outcome: lost" for job_id in sorted(unfinished)]
            return [
                f"{job.id} ended as {job.status()}" for job in self.jobs if job.status().value != "succeeded"
            ]

    def stop(self) -> int:
        """Drain the workers; their supervisor's exit code."""
        self.workers.send_signal(signal.SIGTERM)
        return self.workers.wait(PATIENCE)

    def _look(self) -> Sequence[Body]:
        bodies = read_bodies(self.witness)
        self.screen.show(bodies, {"example": EXAMPLES, "email": EMAILS})
        return bodies

    def _until(self, failure: str, look: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            if self.workers.poll() is not None:
                raise DemoFailed(
                    f"{failure}: the workers ended with exit code {self.workers.returncode}:\n{self.log.read_text()[-2000:]}"
                )
            if time.monotonic() > end:
                raise DemoFailed(f"{failure} after {PATIENCE:g} s:\n{self.log.read_text()[-2000:]}")
            time.sleep(LOOK_EVERY)
        return found


def play(*, quick: bool, stream: IO[str]) -> bool:
    """Perform it. Returns whether everything that was to be shown held.

    Args:
        quick: shorter bodies.
        stream: a terminal gets live bars, anything else plain lines.

    Raises:
        ConfigurationError: there is no redis-server to run. DemoFailed: a step did not come to its end.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowq-demo-")))
        witness = home / "witness"
        witness.mkdir()
        server = stack.enter_context(start_embedded(home / "redis"))
        address = parse_url(server.url)
        demo_app.app.override(url=server.url)
        begin(address)
        screen = stack.enter_context(Screen(Console(file=stream, highlight=False)))
        screen.say(f"a private redis-server is running in {home}")
        workers = stack.enter_context(_workers(server.url, witness, home / "workers.log"))
        stack.callback(workers.terminate)
        admin = stack.enter_context(open_admin(address, demo_app.app.name))
        demo = Demo(screen, 0.9 if quick else 2.5, witness, admin, workers, home / "workers.log")
        demo.wait_for_workers()
        demo.submit()
        kill = demo.kill_one()
        wrong = demo.wait_for_all()
        proof = prove(read_bodies(witness), kill)
        code = demo.stop()
        if code != 0:
            wrong.append(f"the workers' supervisor ended with exit code {code}")
        wrong += proof.defects(demo_app.LIMIT)
        compressed = _compressed(demo.jobs) if not wrong else None
        screen.close()
        _conclude(screen, proof, kill, wrong, compressed, time.monotonic() - began)
    return not wrong


def begin(address: Address) -> None:
    """Be the app's first member, for a moment.

    A server on which nobody has ever joined may be one that has forgotten, so limited types would rest for one lease. This process
    knows that it is new: it has just created it.
    """
    lanes = {name: lane_policy(task) for name, task in demo_app.app.tasks.items()}
    keys = Keys(app_prefix(demo_app.app.name))
    client = address.sync_client()
    member = secrets.token_hex(8)
    ttl_ms = round(demo_app.LEASE_TTL * 1000)
    arguments = scripts.join(
        member,
        secrets.token_hex(8),
        ttl_ms=ttl_ms,
        virgin_ok=True,
        old="",
        pool=pool_of(lanes),
        facts=b"{}",
        lanes=lanes,
        keep=[],
    )
    try:
        scripts.JOIN.call_sync(client, [keys.clock], arguments)
        scripts.LEAVE.call_sync(client, [keys.clock], [member])
    finally:
        client.close()


def _workers(url: str, witness: Path, log: Path) -> subprocess.Popen[bytes]:
    settings = {"FLOWQ_URL": url, demo_app.WITNESS: str(witness)}
    others = {k: v for k, v in os.environ.items() if not k.startswith("FLOWQ_") or k == "FLOWQ_RUN_DIR"}
    command = [
        *(sys.executable, "-m", "flowq", "run", "flowq.cli.demo_app:app"),
        *("--processes", str(WORKERS), "--concurrency", "8", "--grace", "10"),
    ]
    with log.open("wb") as file:
        return subprocess.Popen(
            command, env=others | settings, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _compressed(jobs: Sequence[SyncJob[Any]]) -> tuple[int, int]:
    results = [job.result(timeout=5) for job in jobs if job.id.startswith("example:")]
    return sum(before for before, _ in results), sum(after for _, after in results)


def _conclude(
    screen: Screen,
    proof: Proof,
    kill: Kill,
    wrong: Sequence[str],
    compressed: tuple[int, int] | None,
    seconds: float,
) -> None:
    limit = demo_app.LIMIT
    recovery = (
        "never" if proof.recovery is None else f"{proof.recovery:.2f} s (lease {demo_app.LEASE_TTL:g} s)"
    )
    rows = {
        "most example bodies at once": f"{proof.peak} (limit {limit})",
        "on average while jobs waited": f"{proof.effective:.2f}; {proof.overall:.2f} with the recovery",
        "kill to running elsewhere": recovery,
        "jobs": f"{EXAMPLES} example and {EMAILS} email enqueued, {len([w for w in wrong if 'outcome' in w])} lost",
    }
    for pid, by in sorted(proof.bodies.items()):
        name = f"process {pid}{' (killed)' if pid == kill.pid else ''}"
        rows[name] = ", ".join(f"{n} {task}" for task, n in sorted(by.items(), reverse=True))
    if compressed is not None:
        before, after = compressed
        rows["real work"] = (
            f"{before / 1e6:.1f} MB of the standard library compressed to {after / 1e6:.1f} MB"
        )
    rows["took"] = f"{seconds:.1f} s"
    screen.summary(rows, wrong)
