"""``/livez``, ``/readyz`` and ``/metrics`` over HTTP, answered inside the supervisor's own loop: no thread, no framework, no Redis.

What this room does: a few connections at a time, one short request each, one short answer. What it will not do: decide what is
alive (the supervisor's ``Report`` does).
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import attrs

from flowq._errors import ConfigurationError
from flowq.cli.metrics import HOW

MOST_CONNECTIONS: Final = 64
PATIENCE: Final = 2.0
"""Seconds that a client may take to say what it wants."""
_BACKLOG: Final = 16
_JSON: Final = "application/json"


@attrs.frozen
class Report:
    """What the probes answer."""

    live: bool
    """Every worker process that runs has an event loop that turns."""
    ready: bool
    """At least one of them consumes, and nobody asked to stop."""
    detail: dict[str, Any]
    metrics: Callable[[], bytes] | None = None
    """Makes the page; None: what it needs is not installed."""

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """HTTP status, type of the content, and body for a path."""
        if path.partition("?")[0] == "/metrics":
            if self.metrics is None:
                return 501, "text/plain; charset=utf-8", HOW.encode() + b"\n"
            return 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics()
        held = {"/livez": self.live, "/readyz": self.ready}.get(path.partition("?")[0])
        if held is None:
            return 404, _JSON, b'{"error": "there are /livez, /readyz and /metrics"}\n'
        body = {"ok": held, "live": self.live, "ready": self.ready, **self.detail}
        return 200 if held else 503, _JSON, json.dumps(body).encode() + b"\n"


@attrs.define
class _Client:
    connection: socket.socket
    since: float
    asked: bytes = b""


class Probes:
    """Listens on a port and a unix socket; ``register`` it in a selector and call ``handle`` for what is readable."""

    def __init__(self, report: Callable[[], Report], *, port: int | None, path: Path) -> None:
        """Bind.

        Args:
            report: asked for each request.
            port: on every interface, for a kubelet; None: none. 0 takes a free one, see ``port``.
            path: of the unix socket, for ``flowq health``.

        Raises:
            ConfigurationError: the port is taken or forbidden, or the path is too long for a socket.
        """
        self._report = report
        self._clients: dict[socket.socket, _Client] = {}
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            unix.bind(str(path))
        except OSError as error:
            unix.close()
            raise ConfigurationError(
                f"no socket for flowq health at {path}: {error.strerror or error}; name a shorter or another directory by FLOWQ_RUN_DIR"
            ) from error
        unix.listen(_BACKLOG)
        self._listeners = [unix]
        self.port: int | None = None
        if port is not None:
            try:
                tcp = _listen(port)
            except OSError as error:
                unix.close()
                raise ConfigurationError(f"--health-port {port} cannot be used: {error.strerror}") from error
            self.port = tcp.getsockname()[1]
            self._listeners.append(tcp)
        for listener in self._listeners:
            listener.setblocking(False)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Have the selector watch the listening sockets."""
        self._selector = selector
        for listener in self._listeners:
            selector.register(listener, selectors.EVENT_READ, self)

    def handle(self, ready: Any) -> None:
        """One of ours is readable."""
        if ready in self._listeners:
            self._accept(ready)
        elif ready in self._clients:
            self._read(self._clients[ready])

    def expire(self) -> None:
        """Hang up on who has been silent for too long."""
        limit = time.monotonic() - PATIENCE
        for client in [c for c in self._clients.values() if c.since < limit]:
            self._hang_up(client)

    def close(self) -> None:
        """Close everything."""
        for client in list(self._clients.values()):
            self._hang_up(client)
        for listener in self._listeners:
            self._selector.unregister(listener)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # gone again before we looked
        if len(self._clients) >= MOST_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients[connection] = _Client(connection, time.monotonic())
        self._selector.register(connection, selectors.EVENT_READ, self)

    def _read(self, client: _Client) -> None:
        try:
            got = client.connection.recv(2048)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        client.asked += got
        if got and b"\r\n\r\n" not in client.asked and len(client.asked) < 8192:
            return
        words = client.asked.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) == 3 and words[0] in {"GET", "HEAD"}:
            status, content, body = self._report().answer(words[1])
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            with suppress(OSError):  # it did not wait for the answer
                client.connection.sendall(head.encode() + (body if words[0] == "GET" else b""))
        self._hang_up(client)

    def _hang_up(self, client: _Client) -> None:
        self._selector.unregister(client.connection)
        del self._clients[client.connection]
        client.connection.close()


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        except OSError as error:
            if error.errno is None or "address family" not in str(error).lower():
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)
