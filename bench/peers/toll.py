"""A counting proxy between a worker and the run's server: requests and bytes, whichever client sends them.

It costs a hop of some tens of µs, so nothing is timed through it. ``bench/wire.py`` is its elder for flowq alone, which also reads
what flowq's scripts answer.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import hiredis

MUTE = False
"""hiredis: no whole request is there yet."""


@attrs.define
class Toll:
    """What has passed."""

    to: int
    """The server's port."""
    port: int = 0
    """Its own."""
    requests: int = 0
    sent: int = 0
    """Bytes to the server."""
    received: int = 0
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def up(self, data: bytes, requests: int) -> None:
        with self.lock:
            self.sent += len(data)
            self.requests += requests

    def down(self, data: bytes) -> None:
        with self.lock:
            self.received += len(data)


@contextlib.contextmanager
def tolled(to: int) -> Iterator[Toll]:
    """A proxy before the server at this port of 127.0.0.1, for the length of a block."""
    toll = Toll(to)

    class Link(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            _link(toll, self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Link) as listener:
        listener.daemon_threads = True
        listener.block_on_close = False
        toll.port = listener.server_address[1]
        threading.Thread(target=listener.serve_forever, name="bench toll", daemon=True).start()
        try:
            yield toll
        finally:
            listener.shutdown()


def _link(toll: Toll, client: socket.socket) -> None:
    """Carry both ways until either side closes."""
    with socket.create_connection(("127.0.0.1", toll.to)) as server, contextlib.suppress(OSError):
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answers, args=(toll, server, client), name="bench toll", daemon=True).start()
        parser: Any = hiredis.Reader(notEnoughData=MUTE)
        while data := client.recv(1 << 16):
            parser.feed(data)
            requests = 0
            while parser.gets() is not MUTE:
                requests += 1
            toll.up(data, requests)
            server.sendall(data)
        server.shutdown(socket.SHUT_RDWR)


def _answers(toll: Toll, server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side may close at any time
        while data := server.recv(1 << 16):
            toll.down(data)
            client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)
