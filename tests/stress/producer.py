"""Submits jobs and writes ``jobs.log``: what it meant to submit, and what was confirmed as stored.

Usage: python -m tests.stress.producer BACKEND. It obeys lines on its standard input: ``TASK [SECONDS]`` submits one job of that type,
``stop`` ends the load; it ends itself once every submit has its answer.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import redis
from anyio.abc import TaskGroup

import flowq
from tests.stress.load import APP, DELAY, KINDS
from tests.stress.logbook import Log

TICK = 0.05


class Producer:
    """The load of one run."""

    def __init__(self, app: flowq.App[None], tasks: TaskGroup) -> None:
        self._app = app
        self._tasks = tasks
        self._log = Log(os.environ["STRESS_JOBS"])
        self._numbers = itertools.count(1)
        self._look = redis.Redis(unix_socket_path=os.environ["STRESS_SOCKET"], socket_timeout=1)
        self._unanswered = dict.fromkeys(KINDS, 0)
        self._stopped = anyio.Event()

    async def run(self) -> None:
        """Submit until told to stop."""
        self._tasks.start_soon(self._obey)
        owed = dict.fromkeys(KINDS, 0.0)
        last = anyio.current_time()
        while not self._stopped.is_set():
            now = anyio.current_time()
            for task, kind in KINDS.items():
                if kind.rate:
                    owed[task] += kind.rate * (now - last)
                    self.submit(task, int(owed[task]))
                    owed[task] -= int(owed[task])
            last = now
            for task, there in (await anyio.to_thread.run_sync(self._depths)).items():
                self.submit(task, KINDS[task].depth - there - self._unanswered[task])
            with anyio.move_on_after(TICK):
                await self._stopped.wait()

    def submit(self, task: str, count: int, *arguments: object) -> None:
        """Begin to submit so many jobs."""
        for _ in range(count):
            self._unanswered[task] += 1
            self._tasks.start_soon(self._store, task, next(self._numbers), *arguments)

    async def _store(self, task: str, number: int, *arguments: object) -> None:
        """Submit one job, as often as it takes to know that it is stored."""
        reference: Any = self._app.ref(task)
        if task == "delayed":
            reference = reference.options(delay=DELAY)
        self._log.note("intent", task, number)
        send: Callable[[], Awaitable[flowq.Job[Any]]] = functools.partial(
            reference.enqueue, number, *arguments
        )
        unsure = False
        while True:
            try:
                job = await send()
            except flowq.SubmitUnknown as error:
                send, unsure = error.resend, True
            except flowq.Unavailable:
                if unsure:
                    self._log.note("perhaps", task, number)
                    break
            else:
                self._log.note("stored", task, number, job.id)
                break
            await anyio.sleep(0.1)
        self._unanswered[task] -= 1

    def _depths(self) -> dict[str, int]:
        """How much of each limited type is outstanding; nothing while the server does not say."""
        lanes = [task for task, kind in KINDS.items() if kind.limit]
        try:
            found: Any = [self._look.xlen(f"flowq:{{{APP}}}:s:{task}") for task in lanes]
        except redis.RedisError:
            return {}
        return dict(zip(lanes, found, strict=True))

    async def _obey(self) -> None:
        while True:
            line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            words = line.split()
            if not words or words == ["stop"]:
                self._stopped.set()
                return
            self.submit(words[0], 1, *map(float, words[1:]))


async def main() -> None:
    app: flowq.App[None] = flowq.App(APP, lease_ttl=float(os.environ["STRESS_TTL"]))
    async with app, anyio.create_task_group() as tasks:
        await Producer(app, tasks).run()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1])
