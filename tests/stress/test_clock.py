"""The clock shim: the server's wall clock steps, and nothing else does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio

from tests.stress.server import Server


def test_the_servers_clock_steps() -> None:
    """TIME follows the step, forward and back; the server stays up, and a restart keeps what was written."""
    with tempfile.TemporaryDirectory(prefix="fq-clock-") as folder:
        server = Server(Path(folder))
        if not server.has_clock:
            pytest.skip(
                "no C compiler (or no Linux) here: the chaos run names its clock steps as skipped, too"
            )
        try:
            trio.run(server.start)
            with server.client() as client:
                begun = client.time()[0]
                server.step_clock(3600)
                assert 3590 < client.time()[0] - begun < 3700
                client.set("here", "1")
                server.step_clock(-7200)
                assert -3700 < client.time()[0] - begun < -3500
                up = client.info("server")["uptime_in_seconds"]
                assert isinstance(up, int)
            server.kill()
            trio.run(server.start)
            with server.client() as client:
                assert client.get("here") == "1"
        finally:
            server.kill()
