"""A counting proxy between a worker and the bench's redis-server: requests on the wire, bytes, and what claims brought.

Redis's own counters mix what came over the wire with what scripts call inside (CORRECTIONS 4.6); here each request is one that
somebody sent. Each worker gets a socket of its own (a ``Tap``), so what it asked for can be told from the others'.

It costs a hop of some tens of µs, so nothing is timed through it.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import hiredis

from flowq.backends.redis import scripts

Cause = Literal["settle", "ring", "poll", "other"]

SCRIPTS = {
    hashlib.sha1(script.text_for(version).encode(), usedforsecurity=False).hexdigest().encode(): script.name
    for script in scripts.ALL
    for version in ((6, 2, 0), (7, 0, 0))
}
"""SHA as it stands in EVALSHA → name."""
ROOM = 4 + scripts.CLAIM.args.index("room")
POLLED = 0.9
"""Share of its BLOCK after which an empty answer of the doorbell was the safety poll's, not somebody's CLIENT UNBLOCK."""
MUTE = False
"""hiredis: no whole message is there yet. No reply is False in RESP2, which the pairs are made of."""


@attrs.frozen
class Claim:
    """One claim that was answered."""

    at: float
    """Monotonic seconds."""
    room: int
    granted: int
    cause: Cause
    """What it went with or followed: the same write's settle, a ring, or the reader's safety poll."""

    @property
    def is_futile(self) -> bool:
        """It had room and got nothing."""
        return self.room > 0 and self.granted == 0


@attrs.define
class Tap:
    """What one socket's clients have sent and got."""

    path: Path
    requests: Counter[str] = attrs.field(factory=Counter)
    """By command; EVALSHA by the script's name."""
    sent: int = 0
    """Bytes to the server."""
    received: int = 0
    claims: list[Claim] = attrs.field(factory=list)
    last_wait: Cause = "other"
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def total(self) -> int:
        """Requests."""
        with self.lock:
            return self.requests.total()

    def futile(self, since: float, until: float, *causes: Cause) -> int:
        """How many claims in that time had room and got nothing; of these causes, or of any."""
        with self.lock:
            claims = [c for c in self.claims if since <= c.at <= until and (not causes or c.cause in causes)]
        return sum(c.is_futile for c in claims)


@attrs.frozen
class _Asked:
    """A request that waits for its reply."""

    name: str
    at: float
    room: int
    cause: Cause
    block: float
    """Seconds."""


class _Link:
    """One client's connection, and the one to the server behind it; two threads carry bytes."""

    def __init__(self, tap: Tap, client: socket.socket, server: socket.socket) -> None:
        self._tap = tap
        self._client, self._server = client, server
        self._asked: deque[_Asked] = deque()
        self._listens = False
        self._last = ""
        for carry in (self._carry_up, self._carry_down):
            threading.Thread(target=self._carry, args=(carry,), name="bench wire", daemon=True).start()

    def _carry(self, carry: Any) -> None:
        with contextlib.suppress(OSError):  # either side may close at any time
            carry()
        self.close()

    def close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _carry_up(self) -> None:
        parser = hiredis.Reader(notEnoughData=MUTE)
        while data := self._client.recv(1 << 16):
            parser.feed(data)
            with self._tap.lock:
                self._tap.sent += len(data)
                while (request := parser.gets()) is not MUTE:
                    self._note_request(request)
            self._server.sendall(data)

    def _carry_down(self) -> None:
        parser = hiredis.Reader(notEnoughData=MUTE)
        while data := self._server.recv(1 << 16):
            self._client.sendall(data)
            parser.feed(data)
            with self._tap.lock:
                self._tap.received += len(data)
                while (reply := parser.gets()) is not MUTE:
                    self._note_reply(reply)

    def _note_request(self, request: Any) -> None:
        command = bytes(request[0]).decode().upper()
        name = SCRIPTS.get(bytes(request[1]), "EVALSHA") if command == "EVALSHA" else command
        tap, room, cause = self._tap, 0, "other"
        tap.requests[name] += 1
        if name == "claim":
            room = int(request[ROOM])
            cause, tap.last_wait = ("settle", "other") if self._last == "settle" else (tap.last_wait, "other")
        self._last = name
        self._listens = self._listens or command in {"SUBSCRIBE", "PSUBSCRIBE"}
        if not self._listens:
            words = [bytes(word) for word in request]
            block = int(words[words.index(b"BLOCK") + 1]) / 1000 if name == "XREADGROUP" else 0.0
            self._asked.append(_Asked(name, time.monotonic(), room, cause, block))  # type: ignore[arg-type]  # a literal type

    def _note_reply(self, reply: Any) -> None:
        if self._listens or isinstance(reply, hiredis.PushNotification) or not self._asked:
            return
        asked = self._asked.popleft()
        now = time.monotonic()
        if asked.name == "XREADGROUP":
            self._tap.last_wait = (
                "ring" if reply else "poll" if now - asked.at >= POLLED * asked.block else "other"
            )
            self._last = ""
        elif asked.name == "claim" and isinstance(reply, list) and reply[0] == b"OK":
            granted = len(scripts.read_claim(reply, now).grants)
            self._tap.claims.append(Claim(now, asked.room, granted, asked.cause))


class Wire:
    """The proxy: ``tap()`` makes one more way to the server."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._listeners: list[socket.socket] = []
        self._links: list[_Link] = []
        self._count = 0

    def tap(self) -> Tap:
        """A fresh socket beside the server's own."""
        self._count += 1
        tap = Tap(self._server.with_name(f"tap{self._count}.sock"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tap.path))
        listener.listen()
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(tap, listener), name="bench wire", daemon=True).start()
        return tap

    def _accept(self, tap: Tap, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                self._links.append(_Link(tap, client, server))

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            path = Path(listener.getsockname())
            listener.close()
            path.unlink()
        for link in self._links:
            link.close()


@contextlib.contextmanager
def tapped(server: Path) -> Iterator[Wire]:
    """A proxy before the server at this socket, for the length of a block."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()
