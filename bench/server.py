"""The bench's own redis-server, and what it says about itself."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import redis

from bench.conditions import Conditions, deadline


@attrs.frozen
class Usage:
    """What the server has spent and done so far."""

    cpu_us: float
    """User and system CPU time, µs."""
    calls: int
    """EVALSHA and XREADGROUP … calls that came over the wire as scripts (cmdstat_evalsha)."""
    commands: int
    """All commands, those inside scripts among them."""
    script_us: float
    """Of the CPU time, µs in scripts."""


@attrs.frozen
class Server:
    """A running redis-server on a unix socket."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int = 0
    """It listens there on 127.0.0.1, too, unless 0."""

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """For clients that know no unix sockets."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A plain client that decodes replies."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def stop(self) -> None:
        """SIGSTOP: it answers nobody until ``go_on``."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


def usage(client: redis.Redis) -> Usage:
    """Read the counters over a connection of the caller's."""
    cpu: Any = client.info("cpu")
    stats: Any = client.info("stats")
    calls: Any = client.info("commandstats")
    scripts = calls.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return Usage(
        (cpu["used_cpu_sys"] + cpu["used_cpu_user"]) * 1e6,
        scripts["calls"],
        stats["total_commands_processed"],
        float(scripts["usec"]),
    )


@contextmanager
def running_server(conditions: Conditions, *, tcp: bool = False) -> Iterator[Server]:
    """A server for the length of a block, in a folder of its own; its data are gone afterwards.

    Args:
        conditions: which program, and how it persists.
        tcp: let it listen on a free port of 127.0.0.1 as well.
    """
    port = _free_port() if tcp else 0
    with tempfile.TemporaryDirectory(prefix="fq-bench-") as name:
        folder = Path(name)
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "unixsocket": str(folder / "redis.sock"),
            "dir": name,
            "logfile": str(folder / "redis.log"),
            "save": "",
            "appendonly": "no" if conditions.persistence == "none" else "yes",
            "daemonize": "no",
        }
        if conditions.persistence != "none":
            settings["appendfsync"] = conditions.persistence
        command = [str(conditions.server)]
        for setting, value in settings.items():
            command += ["--" + setting, value]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            server = Server(folder, process, port)
            try:
                _wait_until_up(server)
                yield server
            finally:
                server.go_on()
                process.terminate()
                process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_up(server: Server) -> None:
    limit = deadline(10, "redis-server answers")
    with server.client() as client:
        while True:
            try:
                client.ping()
            except redis.exceptions.RedisError:
                limit.wait()
            else:
                return
