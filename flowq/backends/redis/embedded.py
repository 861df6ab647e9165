"""A private redis-server for development: on a unix socket, durable, shared by the processes that name the same directory.

The first user of a directory starts the server, later ones find it, the last one out stops it. Who uses it and whether it runs are
facts of locks (``flock``), which the kernel drops with their holder:

- ``start.lock``, exclusive: somebody looks, starts or stops right now.
- ``users.lock``, shared: held by each user for as long as it lives. A user that was SIGKILLed does not count.
- ``server.lock``, exclusive: held by the redis-server itself, which inherited it; the file says its process id. So no second server
  ever writes the same data, and only a server that was started here is ever stopped here.

If every user was SIGKILLed, ``embedded_keeper``, the server's parent, sees ``users.lock`` free and stops the server within moments. If
the keeper was killed too, the server goes on alone; the next user of the directory adopts it, and stops it when it is the last out.

Nothing that was acknowledged is lost by any of this: the append-only file is written before each reply. A power failure may cost the
last second or two with ``appendfsync="everysec"``, nothing with ``"always"``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self
from urllib.parse import quote

from flowq._errors import ConfigurationError, OutcomeUnknown, ServerError, Unavailable
from flowq.backends.redis.embedded_files import (
    POLL,
    lock_within,
    locked,
    log_end,
    opened,
    server_pid,
    server_runs,
    socket_path,
    try_lock,
)
from flowq.backends.redis.find_server import find_redis_server
from flowq.backends.redis.script import execute_sync
from flowq.backends.redis.url import Address

logger = logging.getLogger("flowq.redis")

AppendFsync = Literal["always", "everysec", "no"]

STOP_TIMEOUT: Final = 15.0
"""Seconds that a server may take to end."""
_KEEPER: Final = Path(__file__).with_name("embedded_keeper.py")


class EmbeddedServer:
    """This process's share in the server of a directory. Made by ``start_embedded``; also a context manager that releases.

    Keep it for as long as the server is needed: when the last share is gone, the server ends.

    Attributes:
        url: what flowq takes.
        directory: resolved.
        created_empty: this very call created the data directory and started the server: nothing can have been forgotten.
    """

    def __init__(self, directory: Path, socket: Path, users: BinaryIO, *, created_empty: bool) -> None:
        self.directory = directory
        self.created_empty = created_empty
        self.url = f"unix://{quote(str(socket))}"
        self._address = Address(path=str(socket), connect_timeout=1.0, reply_timeout=2.0)
        self._users: BinaryIO | None = users
        _open_here.add(self)

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.url}{'' if self._users is not None else ' (released)'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def pid(self) -> int | None:
        """The server's process id; None if it does not run."""
        return server_pid(self.directory)

    def release(self) -> bool:
        """This process uses it no more. The last user stops it, and waits until it is gone.

        Returns:
            True if the server has been stopped. A second call does nothing and returns False.
        """
        return self._leave(stop_for_all=False)

    def stop(self) -> bool:
        """Stop the server now, even if others use it. Returns False if it had been released, or the server would not end."""
        return self._leave(stop_for_all=True)

    def _leave(self, *, stop_for_all: bool) -> bool:
        users, self._users = self._users, None
        if users is None:
            return False
        _open_here.discard(self)
        with users:
            try:
                with locked(self.directory / "start.lock", STOP_TIMEOUT):
                    users.close()
                    return self._stop_if_unused(stop_for_all=stop_for_all)
            except (OSError, Unavailable) as error:
                # somebody removed the directory, or is stuck in it; the keeper stops the server then
                logger.error(
                    "the embedded redis-server at %s was left without looking who uses it: %s",
                    self.url,
                    error,
                )
                return False

    def _stop_if_unused(self, *, stop_for_all: bool) -> bool:
        with opened(self.directory / "users.lock") as probe:
            alone = try_lock(probe, fcntl.LOCK_EX)
            # free for neither: the keeper saw us go and is stopping the server already
            keeper_stops = not alone and not try_lock(probe, fcntl.LOCK_SH)
            if not (alone or keeper_stops or stop_for_all):
                return False
            if not keeper_stops and not self._shut_down():
                return False
        return self._wait_ended()

    def _shut_down(self) -> bool:
        if not server_runs(self.directory):
            return True
        client = self._address.sync_client()
        try:
            info: bytes = execute_sync(client, "INFO", "server")
            if f"process_id:{self.pid}\r\n".encode() not in info:
                logger.error("the server at %s was not started here and is left alone", self.url)
                return False
            execute_sync(client, "SHUTDOWN")
        except OutcomeUnknown:
            return True  # how a server answers SHUTDOWN
        except ServerError as error:
            logger.error("the embedded redis-server (process %s) could not be stopped: %s", self.pid, error)
        finally:
            client.close()
        return False

    def _wait_ended(self) -> bool:
        deadline = time.monotonic() + STOP_TIMEOUT
        while server_runs(self.directory):
            if time.monotonic() > deadline:
                logger.error("the embedded redis-server (process %s) does not end", self.pid)
                return False
            time.sleep(POLL)
        # its number may still be seen until the keeper has taken note of the end
        os.truncate(self.directory / "server.lock", 0)
        return True

    def forget(self) -> None:
        """In a forked child: the parent is the user, and its lock must end with the parent. Called by itself at each fork."""
        users, self._users = self._users, None
        if users is not None:
            users.close()


_open_here: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _forget_all_in_child() -> None:
    for server in tuple(_open_here):
        server.forget()


os.register_at_fork(after_in_child=_forget_all_in_child)


def start_embedded(
    directory: str | os.PathLike[str], *, appendfsync: AppendFsync = "everysec", timeout: float = 30.0
) -> EmbeddedServer:
    """Use the server of a directory; start it if it does not run. Blocks: call it from a thread inside an event loop.

    Data, log and locks lie in the directory, which is made if need be (mode 0700). The socket lies there too, or under
    ``/tmp/flowq-<uid>/`` if its path would be too long for a socket. Nothing listens on a port.

    Args:
        directory: one per fleet of processes on this machine; not on a network file system.
        appendfsync: when the append-only file goes to the disk itself; the first user's word holds.
        timeout: seconds until it must answer; reading a large append-only file takes a second per 100 MB or so.

    Raises:
        ConfigurationError: there is no redis-server to run, or the directory cannot be used.
        Unavailable: the server did not start, or does not answer. The message holds the end of its log.
    """
    if appendfsync not in ("always", "everysec", "no"):
        raise ConfigurationError(f"appendfsync={appendfsync!r} is none of 'always', 'everysec', 'no'")
    home = Path(directory).expanduser().resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket = socket_path(home)
        with locked(home / "start.lock", timeout):
            return _enter(home, socket, appendfsync, timeout)
    except OSError as error:
        raise ConfigurationError(
            f"the directory {home} of the embedded redis-server cannot be used: {error}"
        ) from error


def _enter(home: Path, socket: Path, appendfsync: AppendFsync, timeout: float) -> EmbeddedServer:
    users = os.fdopen(os.open(home / "users.lock", os.O_RDWR | os.O_CREAT, 0o600), "rb")
    try:
        # held by a keeper that is stopping the server of those who were here before
        lock_within(users.fileno(), fcntl.LOCK_SH, STOP_TIMEOUT, home)
        created_empty = False
        with opened(home / "server.lock") as lock:
            if try_lock(lock, fcntl.LOCK_EX):
                created_empty = _start(home, socket, lock, appendfsync)
        _wait_ready(home, socket, timeout)
        return EmbeddedServer(home, socket, users, created_empty=created_empty)
    except BaseException:
        # the keeper then stops what was started
        users.close()
        raise


def _start(home: Path, socket: Path, lock: int, appendfsync: AppendFsync) -> bool:
    """Start the keeper, which starts the server. Returns whether the data directory was made just now."""
    program = find_redis_server()
    data = home / "data"
    created = not data.exists()
    data.mkdir(mode=0o700, exist_ok=True)
    os.ftruncate(lock, 0)
    keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(home / "users.lock"), str(lock)]
    server = [
        *(str(program), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(data), "--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
    ]
    with (home / "redis.log").open("ab") as log:
        done = subprocess.run(
            [*keeper, *server],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            check=False,
        )
    if done.returncode:
        raise Unavailable(f"the embedded redis-server could not be started; its log ends: {log_end(home)}")
    return created


def _wait_ready(home: Path, socket: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    client = Address(path=str(socket), connect_timeout=1.0, reply_timeout=1.0).sync_client()
    try:
        while True:
            try:
                execute_sync(client, "PING")
            except ServerError as error:
                trouble = error
            else:
                return
            if not server_runs(home):
                raise Unavailable(
                    f"the embedded redis-server ended while starting; its log ends: {log_end(home)}"
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the embedded redis-server of {home} (process {server_pid(home)}) does not answer within {timeout:g} s: "
                    f"{trouble}; end that process, or give it more time; its log ends: {log_end(home)}"
                )
            time.sleep(POLL)
    finally:
        client.close()
