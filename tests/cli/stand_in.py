"""A stand-in for the worker process: does what its target says, and writes each thing down for the test.

``python -m tests.cli.stand_in WITNESS FD``. The target is a comma-separated list of steps, the last of which is repeated for ever:
``loaded``, ``wait``, ``first`` (the others only wait), ``crowd=N`` (until N have started), ``exit=N``, ``die=SIGNAL``, ``deaf`` (to SIGTERM), ``drain=N`` (exit N on SIGTERM), ``again=N`` (exit N on the second),
``lease=S`` (publishes one limited body whose lease ends in S seconds), ``stop`` (SIGSTOP), ``regex`` (C code that holds the GIL),
``program`` (a program of its own), ``orphan`` (a program whose parent ends), ``stale`` (its loop last turned an hour ago), ``ready``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from flowq._clock import monotonic_clock
from flowq._runtime import overrun
from flowq.cli.board import PULSE, Pulse, PulseFile
from flowq.cli.lifeline import end_with_supervisor
from flowq.cli.settings import receive

now = monotonic_clock()


def main(witness: Path, fd: int) -> None:
    settings = receive(fd)
    end_with_supervisor(settings.supervisor, fd)
    pulse = PulseFile(Path(os.environ[PULSE]))
    terms = 0

    def tell(what: str, **more: object) -> None:
        with witness.open("a") as file:
            file.write(
                json.dumps({"what": what, "index": settings.index, "pid": os.getpid(), "at": now(), **more})
                + "\n"
            )

    tell("started")
    steps = settings.target.split(",")
    while steps:
        word, _, value = steps.pop(0).partition("=")
        match word:
            case "loaded":
                pulse.write(Pulse(at=now(), loaded=True))
            case "ready":
                pulse.write(Pulse(at=now(), polled_at=now(), running=3, loaded=True, consuming=True))
            case "stale":
                pulse.write(Pulse(at=now() - 3600, polled_at=now(), loaded=True, consuming=True))
            case "exit":
                sys.exit(int(value))
            case "first":
                # only the first process does the rest
                if settings.index:
                    steps = ["wait"]
            case "crowd":
                # until so many worker processes have started
                while witness.read_text().count('"started"') < int(value):
                    time.sleep(0.01)
            case "die":
                os.kill(os.getpid(), getattr(signal, value))
            case "deaf":
                signal.signal(signal.SIGTERM, lambda *_: tell("term"))
            case "drain":

                def leave(*_: object, code: str = value) -> None:
                    tell("term")
                    sys.exit(int(code))

                signal.signal(signal.SIGTERM, leave)
            case "again":

                def heed(*_: object, code: str = value) -> None:
                    nonlocal terms
                    terms += 1
                    tell("term")
                    if terms == 2:
                        sys.exit(int(code))

                signal.signal(signal.SIGTERM, heed)
            case "lease":
                publisher = overrun.Publisher.from_environment()
                end = now() + float(value)
                publisher.publish(end, 1)
                tell("lease", end=end)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "regex":
                # no other thread of this process runs until it is killed: exponential in C, with the GIL
                re.match(r"(a+)+$", "a" * 40 + "b")
            case "program":
                program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                tell("program", program=program.pid)
            case "orphan":
                code = "import subprocess, sys; print(subprocess.Popen(['true']).pid, subprocess.Popen(['sleep', '0.2']).pid)"
                done = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=True
                )
                tell("orphans", pids=[int(pid) for pid in done.stdout.split()])
            case "wait":
                time.sleep(0.02)
                steps = steps or ["wait"]
            case _:
                raise ValueError(word)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
