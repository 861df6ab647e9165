"""What every test may ask for: both event loops, a redis-server of this run's own, a fresh app name, and a check for leaks.

Nothing here ever talks to port 6379: each server listens on a unix socket in a folder of its own and is stopped by its process id.
"""

from __future__ import annotations

import fnmatch
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs
import pytest
import redis

from flowq.backends.redis.audit import check
from flowq.backends.redis.embedded import find_redis_server
from flowq.backends.redis.keys import Keys, app_prefix
from flowq.backends.redis.url import parse_url

for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    # a run started in the background (nohup, `&`) has them ignored, and the programs under test would inherit that
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

PERSISTENT = (
    "clock",  # the app's clocks, epoch and layout
    "members",  # at least the sentinel
    "types",  # every lane ever seen
    "limits",  # in force; an unserved lane keeps its last
    "override",  # set by an operator, survives deploys
    "paused",  # set by an operator, survives deploys
    "serve",
    "pools",
    "bell:*",  # capped streams
    "stats:*",  # counters since ever; the minute buckets have a TTL
    "dead",  # dead letters: kept until dropped, by number and age
    "s:*",  # a lane's stream: stays, but empty (see WORK)
)
"""Keys without a TTL that may stay when no job and no worker is left. Anything else is a leak."""

WORK = (
    "s:*",
    "delayed",
    "delayed:d",
    "moved",
    "crashes:*",
    "cancels",
    "orphans",
    "u:*",  # idempotency keys: freed by the settle
)
"""Keys that live as long as a job is outstanding: allowed to a test that says ``@pytest.mark.leaves_jobs("why")``."""

FLEET = ("member:*", "pm:*", "pool:*", "ready:*", "full:*", "expired")
"""Keys that live as long as a worker has not left: allowed to a test that says ``@pytest.mark.leaves_members("why")``."""


@pytest.fixture(params=["trio", "asyncio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on each of these."""
    return str(request.param)


# --- servers -----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class RedisServer:
    """A running redis-server. ``url`` is what flowq takes, ``client()`` a plain client for a test's own look."""

    socket: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)


def _answer(path: Path) -> bytes:
    """What the server says to PING: by hand, for a client library would first want a password or another protocol."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(1)
        stream.connect(str(path))
        stream.sendall(b"PING\r\n")
        return stream.recv(100)


def _wait_until_up(server: RedisServer, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    said: object = "nothing"
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            said = _answer(server.socket)
        except OSError as error:
            said = error
        else:
            if said.startswith((b"+PONG", b"-NOAUTH")):
                return
        time.sleep(0.01)
    tail = server.log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"redis-server did not come up (last answer: {said!r}); its log ends:\n{tail}")


@contextmanager
def running_redis(*options: str, folder: Path | None = None) -> Iterator[RedisServer]:
    """Run a redis-server on a unix socket, without persistence unless ``options`` ask for it.

    Args:
        options: what redis-server's command line takes, for example ``"--maxmemory", "1mb"``; they win. With
            ``"--unixsocket"`` a server is restarted where its clients look for it.
        folder: where its data lies; pass the same one again to restart over the same data. It is kept then.
    """
    with ExitStack() as stack:
        # /tmp and not pytest's tmp_path: the path of a unix socket has at most 107 bytes
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowq-")))
        path, log = runtime / "redis.sock", runtime / "redis.log"
        if "--unixsocket" in options:
            path = Path(options[options.index("--unixsocket") + 1])
        defaults = {
            "port": "0",
            "unixsocket": str(path),
            "dir": str(folder or runtime),
            "logfile": str(log),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        command = [str(find_redis_server())]
        for name, value in defaults.items():
            command += ["--" + name, value]
        command += options
        log.touch()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            server = RedisServer(path, process, log)
            try:
                _wait_until_up(server, 10)
                yield server
            finally:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The run's redis-server. Tests that kill it, fill it or need a password start one of their own with ``new_redis``."""
    with running_redis() as server:
        yield server


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a redis-server for this test alone: ``new_redis("--requirepass", "x")``. Stopped after the test."""
    with ExitStack() as stack:
        yield lambda *options, **kwargs: stack.enter_context(running_redis(*options, **kwargs))


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def app_name() -> str:
    """A fresh name, so that tests share a server without meeting: ``flowq:{<app_name>}:`` is this test's own."""
    return "t" + secrets.token_hex(5)


# --- leaks -------------------------------------------------------------------------------------------------------------------

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def leaks(client: redis.Redis, app_name: str, *, jobs: bool = False, members: bool = False) -> list[str]:
    """One line per key of the app (and of names that begin with its name) that should not be there.

    Args:
        client: of the server, decoding replies.
        app_name: the test's app.
        jobs: outstanding jobs are expected.
        members: workers that never left are expected.
    """
    allowed = [*PERSISTENT, *(WORK if jobs else ()), *(FLEET if members else ())]
    found = []
    for key in sorted(client.scan_iter(match=f"flowq:{{{app_name}*", count=1000)):
        tail = key.partition("}:")[2]
        if client.pttl(key) != -1:
            continue
        if not any(fnmatch.fnmatchcase(tail, pattern) for pattern in allowed):
            found.append(f"{key} ({client.type(key)}) has neither a TTL nor an owner")
        elif tail.startswith("s:") and not jobs and (left := client.xlen(key)):
            pending = sum(group["pending"] for group in client.xinfo_groups(key))
            found.append(f"{key} holds {left} jobs, {pending} of them in flight")
    return found


def contradictions(server: RedisServer, app_name: str) -> list[str]:
    """One line per fact of the app that is written in two places which do not agree, as ``flowq doctor`` says it."""
    with closing(parse_url(server.url).sync_client()) as client:
        found = check(client, Keys(app_prefix(app_name)), server.url)
    return [f"{finding.topic}: {finding.message}" for finding in found if finding.topic != "server"]


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that has an app: every key left has a TTL or is on the list above, no job is outstanding, and what is written
    in two places agrees.
    """
    if not {"app_name", "redis_server"} <= set(request.fixturenames):
        yield
        return
    # asked for here, before the test's other fixtures, so that they are torn down before this looks
    server: RedisServer = request.getfixturevalue("redis_server")
    app_name: str = request.getfixturevalue("app_name")
    yield
    with server.client() as client:
        found = leaks(
            client,
            app_name,
            jobs=request.node.get_closest_marker("leaves_jobs") is not None,
            members=request.node.get_closest_marker("leaves_members") is not None,
        )
        found += contradictions(server, app_name)
        if mine := list(client.scan_iter(match=f"flowq:{{{app_name}*", count=1000)):
            client.unlink(*mine)
    if found and not request.node.stash.get(_failed, False):
        pytest.fail(
            "left behind:\n  " + "\n  ".join(found) + f"\nSee {__name__}: PERSISTENT, WORK, FLEET.",
            pytrace=False,
        )
