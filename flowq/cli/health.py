"""``flowq health``: asks this machine's supervisors, over their unix sockets; never Redis.

A liveness probe that asks Redis restarts the whole fleet when Redis blinks. ``--live`` asks whether event loops turn, ``--ready``
whether somebody consumes. For a kubelet, ``flowq run --health-port`` answers the same over HTTP without starting a Python each time.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
import typer

from flowq.cli import board
from flowq.cli.exits import Exit

TIMEOUT: Final = 2.0
"""Seconds that a supervisor may take to answer."""


@attrs.frozen
class Answer:
    """What one supervisor said."""

    supervisor: int
    ok: bool
    text: str


def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Only: do the event loops turn? For a liveness probe.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Has a worker claimed or asked for work lately? The default.")
    ] = False,
    pid: Annotated[
        int | None,
        typer.Option(help="Ask only the supervisor of this process id; default: every one of this user."),
    ] = None,
) -> None:
    """Exit 0 if this machine's `flowq run` is well, 1 if not. Asks no Redis; for a container's probe."""
    if live and ready:
        raise typer.BadParameter("--live or --ready, not both")
    path = "/livez" if live else "/readyz"
    answers = [ask(number, folder, path) for number, folder in _found(pid)]
    for answer in answers:
        print(f"{'ok' if answer.ok else 'NOT OK'}  flowq run {answer.supervisor}: {answer.text}")
    if not answers:
        print("NOT OK  no `flowq run` of this user is running on this machine")
    if not answers or not all(answer.ok for answer in answers):
        raise typer.Exit(Exit.FAILED)


def _found(pid: int | None) -> list[tuple[int, Path]]:
    return [(n, path) for n, path in board.supervisors(board.base_dir()) if pid in {None, n}]


def ask(pid: int, folder: Path, path: str) -> Answer:
    """Ask one supervisor. One that does not answer in time is not well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(folder / "health.sock"))
            connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            reply = b""
            while got := connection.recv(65536):
                reply += got
        except OSError as error:
            return Answer(pid, False, f"its supervisor does not answer ({error})")
    head, _, body = reply.partition(b"\r\n\r\n")
    said: dict[str, Any] = json.loads(body or b"{}")
    workers = said.get("workers", [])
    up = sum(row.get("pid") is not None for row in workers)
    consuming = sum(bool(row.get("consuming")) for row in workers)
    return Answer(
        pid,
        b" 200 " in head.partition(b"\r\n")[0],
        f"{up} of {len(workers)} worker processes up, {consuming} consuming, {sum(row.get('running', 0) for row in workers)} bodies"
        + (", draining" if said.get("draining") else ""),
    )
