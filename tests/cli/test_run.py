"""``flowq run`` end to end: real worker processes, a real server, an app on disk."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.cli.stage import Stage, policy
from tests.cli.test_supervisor import eventually, is_gone
from tests.conftest import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.crash

APP = """
import os, time
import anyio
import flowq

app = flowq.App(os.environ["APP_NAME"], lease_ttl=float(os.environ.get("TTL", "10")))


def note(what, **more):
    import json
    with open(os.environ["WITNESS"], "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), "at": time.monotonic(), **more}) + "\\n")


@app.task(limit=2)
async def resize(n: float = 0) -> float:
    note("start", n=n)
    await anyio.sleep(n)
    note("end", n=n)
    return n


@app.task
async def quick() -> str:
    import sniffio
    note("loop", name=sniffio.current_async_library())
    return "done"


@app.task
async def doomed() -> None:
    raise flowq.Reject("never")


@app.task
async def stubborn() -> None:
    note("start")
    with anyio.CancelScope(shield=True):
        await anyio.sleep(60)


@app.task(limit=1)
async def stuck(seconds: float) -> None:
    note("start")
    time.sleep(seconds)
"""


@attrs.define
class Running:
    """A ``flowq run``."""

    process: subprocess.Popen[str]
    witness: Path
    out: str = ""
    err: str = ""

    def told(self, what: str) -> list[dict[str, Any]]:
        lines = self.witness.read_text().splitlines() if self.witness.exists() else []
        return [row for line in lines if (row := json.loads(line))["what"] == what]

    def end(self, seconds: float = 30.0) -> int:
        self.out, self.err = self.process.communicate(timeout=seconds)
        return self.process.returncode

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]


@pytest.fixture
def run_app(stage: Stage, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Write the app to a directory and run it there: ``run_app("--burst")``."""
    (tmp_path / "shop.py").write_text(APP)
    started: list[Running] = []

    def start(
        *options: str,
        target: str = "shop:app",
        url: str | None = None,
        terminal: int | None = None,
        **env: str,
    ) -> Running:
        witness = tmp_path / "witness"
        if not stage.client.hexists(stage.keys.clock, "ttl"):
            # somebody who knows that the server was empty begins: else limited types rest for a lease
            stage.leave(stage.join(ttl=float(env.get("TTL", "10")), quick=policy()))
        process = subprocess.Popen(
            [sys.executable, "-m", "flowq", "run", target, "--log-format", "json", *options],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "FLOWQ_RUN_DIR": str(tmp_path),
                "FLOWQ_URL": stage.url if url is None else url,
                "APP_NAME": stage.name,
                "WITNESS": str(witness),
                **env,
            },
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=terminal is not None,
            preexec_fn=None if terminal is None else _take_terminal,  # noqa: PLW1509 -- no thread of the test runs Python then
        )
        started.append(Running(process, witness))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        if not one.err:
            one.process.communicate()


def _take_terminal() -> None:
    """Make standard input the terminal whose Ctrl-C this new session hears."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def started(stage: Stage, workers: int = 1) -> None:
    """So many workers are members."""
    eventually(lambda: stage.client.zcard(stage.keys.members) == workers + 1, 30)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_burst_runs_all_jobs_and_ends(stage: Stage, run_app: Callable[..., Running], backend: str) -> None:
    """Jobs submitted before it run on the chosen event loop; then it ends with exit code 0 and nobody is a member any more."""
    jobs = [stage.submit("quick") for _ in range(20)]

    one = run_app("--burst", "--backend", backend)

    assert one.end() == 0, one.err
    assert [row["name"] for row in one.told("loop")] == [backend] * len(jobs)
    assert stage.client.zcard(stage.keys.members) == 1
    assert stage.client.xlen(stage.keys.stream("quick")) == 0


def test_a_burst_with_a_dead_job(stage: Stage, run_app: Callable[..., Running]) -> None:
    """A job that ended in the dead letters makes the burst's exit code 4."""
    stage.submit("doomed")
    stage.submit("quick")

    one = run_app("--burst")

    assert one.end() == 4, one.err
    assert len(one.told("loop")) == 1


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("shop", "write module:app"),
        ("./shop.py:app", "write a module as in an import"),
        ("nosuch:app", "there is no module 'nosuch'"),
        ("shop:nosuch", "has no 'nosuch'; it has shop:app"),
        ("shop:note", "is something to call"),
        ("shop:os", "is a module, not a flowq.App"),
        ("broken:app", "ZeroDivisionError"),
        ("lacking:app", "No module named 'not_installed'"),
    ],
)
def test_a_wrong_target(run_app: Callable[..., Running], tmp_path: Path, target: str, says: str) -> None:
    """Each way to name no app is exit code 2, said once and not tried again, with what would be right."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import not_installed\n")

    one = run_app("--processes", "3", target=target)

    assert one.end() == 2, one.err
    failed = one.events("worker.failed")
    assert len(failed) == 1
    assert says in failed[0]["message"]


def test_settings_that_cannot_work(stage: Stage, run_app: Callable[..., Running]) -> None:
    """A bad URL, no URL, an unknown task and a foreign lease are exit code 78; a usage error is 2."""
    ends = [
        run_app(url="http://nowhere"),
        run_app(url=""),
        run_app("--only", "nosuch"),
        run_app("--log-level", "LOUD"),
        run_app("--concurrency", "0"),
    ]

    assert [one.end() for one in ends] == [78, 78, 78, 78, 2]
    assert "no task 'nosuch'" in ends[2].err


def test_a_wrong_password(run_app: Callable[..., Running], new_redis: Callable[..., RedisServer]) -> None:
    """Exit code 77 at once; the password is in no line."""
    server = new_redis("--requirepass", "right")

    one = run_app(url=server.url.replace("unix://", "unix://:wr0ng@"))

    assert one.end() == 77, one.err
    assert "wr0ng" not in one.out + one.err


def test_no_server(run_app: Callable[..., Running], tmp_path: Path) -> None:
    """A worker waits for a server that is not there, and SIGTERM ends it all the same; a burst ends with exit code 69."""
    nowhere = f"unix://{tmp_path}/nobody.sock"
    waiting = run_app(url=nowhere, FLOWQ_START_TIMEOUT="0.5")
    burst = run_app("--burst", url=nowhere, FLOWQ_START_TIMEOUT="0.5")

    assert burst.end() == 69, burst.err
    time.sleep(1)
    assert waiting.process.poll() is None
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.end() == 0, waiting.err


def test_embedded(run_app: Callable[..., Running], stage: Stage, tmp_path: Path) -> None:
    """``--embedded=DIR`` needs no server: two processes share one private one, and other commands find it by its directory."""
    one = run_app(f"--embedded={tmp_path}/redis", "--processes", "2", url="")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "flowq",
        "status",
        "-n",
        stage.name,
        "-u",
        f"embedded://{tmp_path}/redis",
        "--check",
        "workers>=2",
    ]

    def both_seen() -> bool:
        if not (tmp_path / "redis").exists():
            return False
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0

    eventually(both_seen, 40)
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0, one.err
    assert not (tmp_path / "redis" / "redis.sock").exists()


def test_drain_lets_bodies_finish(stage: Stage, run_app: Callable[..., Running]) -> None:
    """On SIGTERM running bodies finish, waiting jobs stay, and the exit code is 0."""
    for _ in range(3):
        stage.submit("resize", 1.0)
    one = run_app()
    eventually(lambda: len(one.told("start")) == 2, 30)

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0, one.err
    assert len(one.told("end")) == 2
    assert stage.client.xlen(stage.keys.stream("resize")) == 1


def test_grace_that_is_over_hands_back(stage: Stage, run_app: Callable[..., Running]) -> None:
    """A body that outlives the grace is cut off (exit code 3); its job is handed back, and runs in the next worker uncounted."""
    stage.submit("resize", 3.0)
    one = run_app("--grace", "0.2")
    eventually(lambda: one.told("start"), 30)

    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 3, one.err
    again = run_app("--burst")

    assert again.end() == 0, again.err
    assert len(again.told("end")) == 1
    assert stage.client.hgetall(stage.keys.crashes("resize")) == {}


def test_the_end_spares_what_was_imported_but_not_the_app(
    stage: Stage, run_app: Callable[..., Running], tmp_path: Path
) -> None:
    """At its end a worker process does not collect the libraries that it began with, which took most of the time that an idle one
    needs to go; what the app left is still ended as ever: a buffered file that only a cycle holds reaches the disk.
    """
    (tmp_path / "tidy.py").write_text(
        APP
        + f"""
import gc
note("import", frozen=gc.get_freeze_count())

class Journal:
    def __init__(self):
        self.itself = self
        self.file = open({str(tmp_path / "journal")!r}, "w")
        self.file.write("last words")

Journal.kept = [Journal()]
"""
    )
    one = run_app(target="tidy:app")
    started(stage)

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0, one.err
    assert one.told("import")[0]["frozen"] > 10_000
    assert (tmp_path / "journal").read_text() == "last words"


def test_second_signal_skips_the_grace(stage: Stage, run_app: Callable[..., Running]) -> None:
    """Two SIGINTs, as from an impatient Ctrl-C: the body is cut off at once."""
    stage.submit("resize", 30.0)
    one = run_app("--grace", "60")
    eventually(lambda: one.told("start"), 30)

    one.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    one.process.send_signal(signal.SIGINT)

    assert one.end() == 3, one.err


@pytest.mark.parametrize(("presses", "code", "ended"), [(1, 0, 2), (2, 3, 0)])
def test_ctrl_c_in_a_terminal(
    stage: Stage, run_app: Callable[..., Running], presses: int, code: int, ended: int
) -> None:
    """A terminal signals the whole foreground group: once drains all the same, twice cuts off; workers hear of it by their supervisor
    alone, so one Ctrl-C is never two to them.
    """
    keyboard, terminal = os.openpty()
    seconds = 1.0 if ended else 30.0
    for _ in range(2):
        stage.submit("resize", seconds)
    one = run_app("--processes", "2", "--grace", "60", terminal=terminal)
    eventually(lambda: len(one.told("start")) == 2, 30)

    for n in range(presses):
        os.write(keyboard, b"\x03")
        if n + 1 < presses:
            time.sleep(0.5)

    assert one.end() == code, one.err
    assert len(one.told("end")) == ended
    os.close(keyboard)
    os.close(terminal)


def test_a_body_that_ignores_its_cancellation_is_killed(
    stage: Stage, run_app: Callable[..., Running]
) -> None:
    """A body that does not leave within cancel_grace holds the worker; the supervisor ends it after five more seconds."""
    stage.submit("stubborn")
    one = run_app("--grace", "0", "--cancel-grace", "0.2")
    eventually(lambda: one.told("start"), 30)

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 1, one.err
    assert "did not end within" in one.events("child.killed")[0]["why"]


def test_workers_die_with_their_supervisor(stage: Stage, run_app: Callable[..., Running]) -> None:
    """A supervisor that is SIGKILLed takes its workers with it: nobody would kill them if they overran their lease."""
    one = run_app("--processes", "2")
    started(stage, 2)
    children = one.children()
    assert len(children) == 2

    one.process.kill()

    eventually(lambda: all(is_gone(pid) for pid in children))


def test_only_and_exclude(stage: Stage, run_app: Callable[..., Running]) -> None:
    """A worker serves what it was told to, and says so to the fleet."""
    one = run_app("--only", "quick,resize", "--exclude", "resize")
    started(stage)

    assert set(stage.client.hkeys(stage.keys.serve)) == {b"quick"}
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0, one.err


def test_a_killed_worker_is_replaced_and_its_job_runs_again(
    stage: Stage, run_app: Callable[..., Running]
) -> None:
    """SIGKILL of the worker that runs a job: the supervisor starts another, and the job runs again when the lease has ended."""
    stage.submit("resize", 1.5)
    one = run_app("--processes", "2", TTL="2")
    first = eventually(lambda: one.told("start"), 30)[0]["pid"]

    os.kill(first, signal.SIGKILL)
    eventually(lambda: one.told("end"), 20)
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0, one.err
    assert one.told("end")[0]["pid"] != first
    assert one.events("child.killed")[0]["signal"] == "SIGKILL"
    assert stage.client.zcard(stage.keys.members) == 1


def test_a_body_stuck_past_the_lease_is_killed(stage: Stage, run_app: Callable[..., Running]) -> None:
    """SIGSTOP of a worker past its lease: the supervisor kills it, since its limited job runs elsewhere by then."""
    job = stage.submit("resize", 0.5)
    one = run_app("--processes", "2", TTL="2")
    first = eventually(lambda: one.told("start"), 30)[0]["pid"]

    os.kill(first, signal.SIGSTOP)
    eventually(lambda: is_gone(first), 10)
    eventually(lambda: [row for row in one.told("end") if row["pid"] != first], 20)
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0, one.err
    assert "its lease ended with 1 limited bodies in it" in one.events("child.killed")[0]["why"]
    assert stage.client.exists(stage.keys.record(job))


def test_json_lines_carry_their_fields(stage: Stage, run_app: Callable[..., Running]) -> None:
    """Every line of standard error is one JSON object; events have their names and facts."""
    stage.submit("doomed")
    one = run_app("--burst")
    one.end()

    lines = [json.loads(line) for line in one.err.splitlines()]

    assert {"worker.started", "worker.stopped"} <= {line.get("event") for line in lines}
    begun = one.events("worker.started")[0]
    assert {"time", "level", "logger", "message", "pid", "lease_ttl"} <= begun.keys()


def test_programs_of_bodies_do_not_take_the_workers_place(
    stage: Stage, run_app: Callable[..., Running], tmp_path: Path
) -> None:
    """The variables that name a worker's shared files are not inherited by what its bodies start."""
    (tmp_path / "envy.py").write_text(
        APP
        + "\n@app.task\nasync def look() -> None:\n    note('env', names=sorted(k for k in os.environ if k.startswith('FLOWQ')))\n"
    )
    stage.submit("look")

    one = run_app("--burst", target="envy:app")

    assert one.end() == 0, one.err
    assert not {"FLOWQ_DEADLINES", "FLOWQ_PULSE"} & set(one.told("env")[0]["names"])
