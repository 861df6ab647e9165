"""The supervisor of ``flowq run``, as a process of its own, over stand-ins for worker processes that misbehave in every way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from flowq._clock import monotonic_clock
from flowq.cli import health
from flowq.cli.exits import Exit, worst
from flowq.cli.restarts import LONGEST_WAIT, MOST_DEATHS, Deaths, Restarts

ROOT = Path(__file__).resolve().parent.parent.parent
now = monotonic_clock()


def eventually(look: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``look`` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def is_gone(pid: int) -> bool:
    """No such process, or only what its parent has not reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return True
    return state in "ZX"


@attrs.define
class Supervised:
    """A running supervisor."""

    process: subprocess.Popen[str]
    witness: Path
    run_dir: Path
    port: int | None
    errors: str = ""

    def told(self, what: str) -> list[dict[str, Any]]:
        lines = self.witness.read_text().splitlines() if self.witness.exists() else []
        return [row for line in lines if (row := json.loads(line))["what"] == what]

    def end(self, seconds: float = 20.0) -> int:
        """Wait for its exit code."""
        _, errors = self.process.communicate(timeout=seconds)
        self.errors += errors
        return self.process.returncode

    def events(self) -> list[dict[str, Any]]:
        """Its log; after ``end``."""
        return [json.loads(line) for line in self.errors.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        found = [e for e in self.events() if e.get("event") == name]
        assert found, self.errors
        return found[0]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Start a supervisor: ``supervise("wait", processes=2)``."""
    started: list[Supervised] = []

    def start(do: str, **options: Any) -> Supervised:
        witness = tmp_path / f"witness-{len(started)}"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.cli.supervise",
                json.dumps({"do": do, "witness": str(witness), **options}),
            ],
            cwd=ROOT,
            env={**os.environ, "FLOWQ_RUN_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        started.append(Supervised(process, witness, Path(said["run_dir"]), said["port"]))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        # they hold the other ends of its pipes
        for row in one.told("started"):
            if not is_gone(row["pid"]):
                os.kill(row["pid"], signal.SIGKILL)
        one.process.communicate()


# --- the decisions ------------------------------------------------------------------------------------------------------


def test_backoff_doubles_and_is_forgotten() -> None:
    """Waits between restarts double up to their longest; after a minute of life they begin anew."""
    restarts = Restarts()

    waits = [restarts.wait(lived=0.1) for _ in range(8)]

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, LONGEST_WAIT]
    assert restarts.wait(lived=60) == 0.5


def test_crash_loop_is_five_deaths_within_a_minute() -> None:
    """Four deaths, or five of which one is old, are none; the fifth within 60 s is."""
    deaths, slow = Deaths(), Deaths()

    assert [deaths.count(t) for t in (0, 1, 2, 3, 60)] == [False] * 4 + [True]
    assert [slow.count(t) for t in (0, 20, 40, 60, 80, 100)] == [False] * 6
    assert MOST_DEATHS == 5


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], 0), ([0, 0], 0), ([0, 3], 3), ([4, 3], 3), ([3, 1], 1), ([1, 70], 70), ([70, 2], 2), ([2, 77, 78], 78), ([-9, 0], 1),
        ([69, 1], 69),
    ],
)  # fmt: skip
def test_worst_of_several_ends(codes: list[int], code: int) -> None:
    """What one supervisor says of several worker processes is the worst of it."""
    assert worst(codes) == code


# --- restarts -----------------------------------------------------------------------------------------------------------


@pytest.mark.crash
def test_a_killed_worker_is_started_again_and_the_log_says_so(supervise: Callable[..., Supervised]) -> None:
    """A worker process killed from outside is logged with its signal, the bodies in it and the OOM hint, and started again."""
    one = supervise("ready,drain=0,wait")
    first = eventually(lambda: one.told("started"))[0]["pid"]
    eventually(
        lambda: (
            "consuming" in health.ask(0, one.run_dir, "/readyz").text
            and health.ask(0, one.run_dir, "/readyz").ok
        )
    )

    os.kill(first, signal.SIGKILL)
    second = eventually(lambda: one.told("started")[1:])[0]["pid"]
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0
    assert first != second
    killed = one.event("child.killed")
    assert (killed["signal"], killed["child"], killed["oom"], killed["bodies"]) == ("SIGKILL", first, True, 3)
    assert one.event("child.restarted")["child"] == second


@pytest.mark.crash
def test_five_deaths_end_the_supervisor(supervise: Callable[..., Supervised]) -> None:
    """Five worker processes that die within a minute end it with exit code 70."""
    one = supervise("loaded,exit=1", processes=5)

    assert one.end() == Exit.CRASH_LOOP
    assert len(one.told("started")) >= 5
    assert one.event("supervisor.gave_up")


@pytest.mark.crash
@pytest.mark.parametrize("code", [2, 77, 78])
def test_an_end_that_would_only_repeat_is_not_restarted(
    supervise: Callable[..., Supervised], code: int
) -> None:
    """An import error, a wrong password and a bad configuration are told once, by one process, and end the whole."""
    one = supervise(f"exit={code}", processes=4)

    assert one.end() == code
    assert len(one.told("started")) == 1


@pytest.mark.crash
def test_a_fatal_end_drains_the_others(supervise: Callable[..., Supervised]) -> None:
    """One process that cannot go on ends the supervisor; the others are drained, not killed."""
    one = supervise("drain=0,loaded,first,crowd=3,wait,wait,wait,exit=78", processes=3)

    assert one.end() == 78
    assert len(one.told("started")) == 3
    assert len(one.told("term")) == 2


@pytest.mark.crash
def test_a_drained_worker_outside_of_a_burst_is_replaced(supervise: Callable[..., Supervised]) -> None:
    """Somebody who sends SIGTERM to one worker process recycles it: exit code 0 is no death, and it is started again."""
    one = supervise("drain=0,loaded,wait")
    first = eventually(lambda: one.told("started"))[0]["pid"]
    time.sleep(0.1)

    os.kill(first, signal.SIGTERM)
    eventually(lambda: len(one.told("started")) == 2)
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0


@pytest.mark.crash
@pytest.mark.parametrize("code", [0, 3, 4, 69])
def test_a_burst_ends_with_its_workers(supervise: Callable[..., Supervised], code: int) -> None:
    """In a burst nobody is started again after an orderly end, and the exit code is theirs."""
    one = supervise(f"loaded,exit={code}", burst=True)

    assert one.end() == code
    assert len(one.told("started")) == 1


# --- signals ------------------------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 0), (signal.SIGHUP, 0)])
def test_signals_are_passed_on(
    supervise: Callable[..., Supervised], number: signal.Signals, code: int
) -> None:
    """SIGTERM, SIGINT and SIGHUP all drain every worker process; the exit code tells whether bodies were cut off."""
    one = supervise(f"drain={code},loaded,wait", processes=2)
    eventually(lambda: len(one.told("started")) == 2)
    time.sleep(0.2)

    one.process.send_signal(number)

    assert one.end() == code
    assert len(one.told("term")) == 2


@pytest.mark.crash
def test_the_second_signal_is_passed_on_too(supervise: Callable[..., Supervised]) -> None:
    """Two signals are two orders to stop: the worker skips its grace."""
    one = supervise("again=3,loaded,wait", grace=30)
    eventually(lambda: one.told("started"))
    time.sleep(0.1)

    one.process.send_signal(signal.SIGTERM)
    eventually(lambda: len(one.told("term")) == 1)
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 3


@pytest.mark.crash
def test_who_does_not_end_is_killed(supervise: Callable[..., Supervised]) -> None:
    """After grace, cancel_grace and the hard exit's seconds a deaf worker process is killed, and the supervisor ends."""
    one = supervise("deaf,loaded,wait", grace=0.2, hard_exit=0.3)
    eventually(lambda: one.told("started"))
    time.sleep(0.1)

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == Exit.FAILED
    assert "did not end within" in one.event("child.killed")["why"]
    assert one.event("child.killed")["oom"] is False


@pytest.mark.crash
def test_the_third_signal_kills(supervise: Callable[..., Supervised]) -> None:
    """Whoever signals a third time does not want to wait."""
    one = supervise("deaf,loaded,wait", grace=60)
    eventually(lambda: one.told("started"))
    time.sleep(0.1)

    for _ in range(3):
        one.process.send_signal(signal.SIGINT)
        time.sleep(0.2)

    assert one.end() == Exit.FAILED


@pytest.mark.crash
def test_a_signal_before_the_worker_has_begun_is_an_orderly_end(supervise: Callable[..., Supervised]) -> None:
    """A worker process that has no handler yet dies of SIGTERM: nothing ran in it, so that is exit code 0."""
    one = supervise("wait")
    eventually(lambda: one.told("started"))

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0


@pytest.mark.crash
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_and_ends_wake_the_supervisor(
    supervise: Callable[..., Supervised], number: signal.Signals
) -> None:
    """Neither a signal nor the end of a worker process waits for the next look at the deadlines: here that is an hour away."""
    one = supervise("drain=0,loaded,wait", tick=3600)
    eventually(lambda: one.told("started"))
    time.sleep(0.1)

    one.process.send_signal(number)

    assert one.end() == 0
    assert len(one.told("term")) == 1


# --- the lease ----------------------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize("how", ["stop", "regex"])
def test_an_overrun_worker_is_killed_in_time(supervise: Callable[..., Supervised], how: str) -> None:
    """Past its published deadline a worker is killed within 0.3 s, be it stopped by SIGSTOP or in C code that holds the GIL."""
    lateness: list[float] = []
    for _ in range(
        3
    ):  # on a busy machine one of three counts: what is shown is that nothing of the worker is waited for
        one = supervise(f"drain=0,loaded,first,lease=0.5,{how},wait")
        lease = eventually(lambda one=one: one.told("lease"))[0]
        eventually(lambda lease=lease: is_gone(lease["pid"]))
        lateness.append(now() - lease["end"])
        one.process.send_signal(signal.SIGTERM)
        one.end()
        assert "its lease ended with 1 limited bodies in it" in one.event("child.killed")["why"]
        assert lateness[-1] > 0
        if lateness[-1] < 0.3:
            break

    assert min(lateness) < 0.3, lateness


@pytest.mark.crash
def test_programs_of_an_overrun_body_go_with_it(supervise: Callable[..., Supervised]) -> None:
    """What a body has started is part of the body: the kill takes the worker's whole process group."""
    one = supervise("drain=0,loaded,program,lease=0.3,stop")
    program = eventually(lambda: one.told("program"))[0]["program"]
    assert not is_gone(program)

    eventually(lambda: is_gone(program))
    one.process.send_signal(signal.SIGTERM)

    assert one.end() in {0, 1}


@pytest.mark.crash
def test_a_lease_in_time_is_left_alone(supervise: Callable[..., Supervised]) -> None:
    """A deadline in the future, renewed or not yet over, kills nobody."""
    one = supervise("drain=0,loaded,lease=60,wait")
    eventually(lambda: one.told("lease"))
    time.sleep(0.5)

    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0
    assert len(one.told("started")) == 1


# --- process 1 ----------------------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is Linux's")
def test_orphans_are_reaped(supervise: Callable[..., Supervised]) -> None:
    """Orphans that end up with the supervisor, as with process 1 of a container, do not stay zombies, and are nobody's death."""
    one = supervise("drain=0,loaded,orphan,wait", subreaper=True)
    orphans = eventually(lambda: one.told("orphans"))[0]["pids"]

    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    one.process.send_signal(signal.SIGTERM)

    assert one.end() == 0
    assert len(one.told("started")) == 1


# --- probes -------------------------------------------------------------------------------------------------------------


def http(port: int, path: str) -> tuple[int, dict[str, Any]]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reply = b""
        while got := connection.recv(4096):
            reply += got
    return int(reply.split(b" ")[1]), json.loads(reply.partition(b"\r\n\r\n")[2])


@pytest.mark.crash
@pytest.mark.parametrize(
    ("do", "live", "ready"),
    [("ready,drain=0,wait", 200, 200), ("loaded,drain=0,wait", 200, 503), ("stale,drain=0,wait", 503, 200)],
)
def test_probes(supervise: Callable[..., Supervised], do: str, live: int, ready: int) -> None:
    """``/livez`` says whether event loops turn, ``/readyz`` whether somebody consumes; anything else is 404."""
    one = supervise(do, health_port=0)
    assert one.port
    eventually(lambda: one.told("started"))
    time.sleep(0.2)

    assert http(one.port, "/livez")[0] == live
    assert http(one.port, "/readyz")[0] == ready
    assert http(one.port, "/metricz")[0] == 404
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0


@pytest.mark.crash
def test_probes_bear_rude_clients(supervise: Callable[..., Supervised]) -> None:
    """A client that says nothing, one that goes away and one that talks nonsense keep nobody else from an answer."""
    one = supervise("ready,drain=0,wait", health_port=0)
    eventually(lambda: one.told("started"))
    silent = socket.create_connection(("127.0.0.1", one.port or 0))
    socket.create_connection(("127.0.0.1", one.port or 0)).close()
    with socket.create_connection(("127.0.0.1", one.port or 0), timeout=5) as nonsense:
        nonsense.sendall(b"\x16\x03\x01 what\r\n\r\n")
        assert nonsense.recv(100) == b""

    assert http(one.port or 0, "/livez")[0] == 200
    silent.settimeout(5)
    assert silent.recv(100) == b""
    silent.close()
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0


@pytest.mark.crash
def test_health_command(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """``flowq health`` exits 0 if this machine's supervisors are well, 1 if one is not ready, or none is there."""

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "FLOWQ_RUN_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-m", "flowq", "health", *words],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    nobody = asked()
    one = supervise("loaded,drain=0,wait")
    eventually(lambda: one.told("started"))
    time.sleep(0.2)

    assert (nobody.returncode, asked("--live").returncode, asked("--ready").returncode) == (1, 0, 1)
    assert "no `flowq run`" in nobody.stdout
    one.process.send_signal(signal.SIGTERM)
    one.end()


@pytest.mark.crash
def test_what_a_killed_supervisor_left_is_cleared(supervise: Callable[..., Supervised]) -> None:
    """The directory of a supervisor that was SIGKILLed is removed by the next one; its own goes when it ends."""
    dead = supervise("wait")
    eventually(lambda: dead.told("started"))
    dead.process.kill()
    dead.process.wait()
    assert dead.run_dir.exists()

    one = supervise("drain=0,wait")
    eventually(lambda: one.told("started"))

    assert not dead.run_dir.exists()
    one.process.send_signal(signal.SIGTERM)
    one.end()
    assert not one.run_dir.exists()


def test_a_run_directory_that_is_too_deep_for_a_socket(tmp_path: Path) -> None:
    """The path of a unix socket is short; which directory to name instead is said, and the worker is not left half started."""
    deep = tmp_path / ("d" * 120)
    ran = subprocess.run(
        [sys.executable, "-m", "flowq", "run", "nothing:app", "--embedded"],
        env={**os.environ, "FLOWQ_RUN_DIR": str(deep)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 78
    assert "AF_UNIX path too long" in ran.stderr
    assert "FLOWQ_RUN_DIR" in ran.stderr
    assert "Traceback" not in ran.stderr
