"""The run's redis-server: started, killed and started again over its data, its clock stepped."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.backends.redis.find_server import find_redis_server
from tests.stress.aof import cut_tail, files

_UP = 60.0
_LONG = 2 << 20
"""Bytes of append-only file from which on it is rewritten."""
GROWTH_PERIOD = 0.02
SHIM = Path(__file__).with_name("clockshim.c")


class Server:
    """A redis-server with an append-only file that is synced before each reply. The witness reads it, so nothing that was ever
    written to it is thrown away: before each rewrite the old file gets a second name, and from Redis 7 on old parts are kept.
    """

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        self.folder = folder
        self.data = folder / "redis"
        self.data.mkdir()
        self.socket = folder / "redis.sock"
        self.program = program or find_redis_server()
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        self._keeps_parts = int(said.partition("v=")[2].partition(".")[0]) >= 7
        self._clock = folder / "clock"
        self._clock.write_bytes(struct.pack("q", 0))
        self._shim = _compile(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.up = trio.Event()
        """It answers. Redis 6.2 dies of a CLIENT PAUSE while it reads its file."""
        self._grown: deque[tuple[float, int, int]] = deque(maxlen=200)

    @property
    def has_clock(self) -> bool:
        """Its clock can be stepped: there is a compiler."""
        return self._shim is not None

    def client(self) -> redis.Redis:
        """A plain client on the straight way."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def version(self) -> tuple[int, int, int]:
        """What it says it is."""
        with self.client() as client:
            facts: Any = client.info("server")
        major, minor, patch = (int(part) for part in facts["redis_version"].split("."))
        return major, minor, patch

    async def start(self) -> float:
        """Start it over its data and wait until it has read them; returns when it answered."""
        env = dict(os.environ)
        if self._shim is not None:
            env |= {"LD_PRELOAD": str(self._shim), "STRESS_CLOCK": str(self._clock)}
        settings = {
            "port": "0", "unixsocket": str(self.socket), "dir": str(self.data), "logfile": str(self.folder / "redis.log"),
            "save": "", "appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0", "daemonize": "no",
        }  # fmt: skip
        if self._keeps_parts:
            settings["aof-disable-auto-gc"] = "yes"
        command = [
            str(self.program),
            *(word for pair in settings.items() for word in ("--" + pair[0], pair[1])),
        ]
        self._process = subprocess.Popen(  # noqa: ASYNC220 -- a server, it only starts here
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        with trio.fail_after(_UP):
            while not self._answers():
                if self._process.poll() is not None:
                    raise RuntimeError(
                        f"redis-server ended:\n{(self.folder / 'redis.log').read_text()[-2000:]}"
                    )
                await trio.sleep(0.01)
        at = time.monotonic()
        self._shorten()
        self.up.set()
        return at

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.up = trio.Event()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def remember(self) -> None:
        """Note how far its file has grown, until cancelled: for ``lose_tail``."""
        while True:
            if current := files(self.data)[-1:]:
                stat = current[0].stat()
                self._grown.append((time.monotonic(), stat.st_ino, stat.st_size))
            await trio.sleep(GROWTH_PERIOD)

    def lose_tail(self, seconds: float) -> None:
        """Cut what it has written in its last so many seconds off the end of its file. It is dead."""
        stat = files(self.data)[-1].stat()
        until = time.monotonic() - seconds
        sizes = [size for at, inode, size in self._grown if inode == stat.st_ino and at <= until]
        cut_tail(
            self.data,
            stat.st_size - (sizes[-1] if sizes else 0),
            self.data / f"tail-{time.monotonic_ns()}.bin",
        )

    def step_clock(self, seconds: float) -> None:
        """Put its wall clock forward, or back, by so much. Monotonic clocks stay."""
        with self._clock.open("r+b") as file:
            (offset,) = struct.unpack("q", file.read(8))
            file.seek(0)
            file.write(struct.pack("q", offset + round(seconds * 1e6)))

    def _shorten(self) -> None:
        """Have the append-only file rewritten, so that the next start has little to read. Done where limited types wait anyhow: on a
        slow disk it takes the server a few tenths of a second.
        """
        current = files(self.data)[-1:]
        if not current or current[0].stat().st_size < _LONG:
            return
        if current[0].name == "appendonly.aof":
            past = list(self.data.glob("history-*.aof"))
            if not any(current[0].samefile(path) for path in past):
                (self.data / f"history-{len(past):04}.aof").hardlink_to(current[0])
        with self.client() as client, suppress(redis.RedisError):
            client.bgrewriteaof()

    def _answers(self) -> bool:
        with self.client() as client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


def _compile(folder: Path) -> Path | None:
    """Our clock shim: libfaketime dies under Redis' allocator. None: this machine has no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not Path("/proc/self").exists():
        return None
    library = folder / "clockshim.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SHIM)], check=True)
    return library
