"""How long does an idle worker take to go: at SIGTERM, at a cancellation from outside, and with a Redis that does not answer?"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from bench.conditions import Conditions, Figure, Target
from bench.fleet import fleet_of
from bench.server import Server, running_server

QUIET = 1.5
"""Seconds that the worker is left idle before."""
PATIENCE = 60.0
TARGETS = {False: Target("at most", 0.3, "CORRECTIONS 2.8"), True: Target("at most", 1.5, "CORRECTIONS 2.8")}


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    figures = []
    with running_server(conditions) as server:
        for backend in conditions.backends:
            for stopped in (False, True):
                beside = ", Redis SIGSTOPped" if stopped else ""
                for name, measure in (
                    ("SIGTERM → `flowq run` has ended", run),
                    ("cancelled → flowq.run has returned", embedded),
                ):
                    samples = [measure(server, backend, stopped) for _ in range(conditions.runs)]
                    figures.append(Figure("shutdown", backend, name + beside, "s", samples, TARGETS[stopped]))
    return figures


def run(server: Server, backend: str, stopped: bool) -> float:
    """From the signal to the end of the process: supervisor, worker and interpreter."""
    command = (sys.executable, "-m", "flowq", "run", "bench.app:app", "--backend", backend)
    with fleet_of(server, backend) as fleet:
        process = fleet.start(command)
        seconds, _ = _end(server, process, stopped)
        if process.returncode != 0:
            raise RuntimeError(f"flowq run ended with {process.returncode}:\n{fleet.log.read_text()[-3000:]}")
        return seconds


def embedded(server: Server, backend: str, stopped: bool) -> float:
    """From the cancellation of the nursery to the return of ``flowq.run``, as the process itself sees it."""
    with fleet_of(server, backend) as fleet:
        process = fleet.start()
        _, said = _end(server, process, stopped)
        return float(said)


def _end(server: Server, process: subprocess.Popen[bytes], stopped: bool) -> tuple[float, bytes]:
    time.sleep(QUIET)
    if stopped:
        server.stop()
        time.sleep(0.2)
    try:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
        return time.monotonic() - began, said
    finally:
        server.go_on()
