"""One open life of an app in one event loop: the backend, the producer, and who uses them.

What this room does: opens the backend in a task of its own and counts who holds the app open. What it will not do: know URLs.

The task is nobody's child: on asyncio a plain Task, on trio a system task. So ``async with app`` holds no cancel scope over its
body: it works in a pytest-asyncio fixture (which enters and leaves in different tasks), a user's exceptions leave it unwrapped,
and a cancelled caller never tears the connection down. A nursery on the trio side would break the second and the third.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import trio
from anyio.lowlevel import checkpoint, current_token

from flowq._clock import wall_clock
from flowq._errors import FlowqError, NotEntered, Unavailable
from flowq._producer import Producer
from flowq.backends.protocol import Backend, OpenBackend

log = logging.getLogger("flowq.app")

CLOSING = 2.0
"""Seconds that a close waits for jobs on the wire and for the connection's own end, before it cuts."""
_asyncio_tasks: set[asyncio.Task[None]] = set()


class Session:
    """See the module. Made and entered by ``App``; ``backend`` and ``producer`` are there once ``ready`` has returned."""

    def __init__(self, app: str, open_backend: OpenBackend, *, enqueue_timeout: float) -> None:
        self.app = app
        self.token = current_token()
        self.pid = os.getpid()
        self.users = 0
        self.failure: Exception | None = None
        self.wall = wall_clock()
        """Unix seconds."""
        self._open_backend = open_backend
        self._enqueue_timeout = enqueue_timeout
        self._opened = anyio.Event()
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._over = False
        self._scope = anyio.CancelScope()
        self._backend: Backend | None = None
        self._producer: Producer | None = None
        spawn_apart(self._run, f"flowq connection of {app}")

    @property
    def backend(self) -> Backend:
        """Raises what ended the session, if something did."""
        if self._backend is None or self._over:
            raise self.failure or NotEntered(f"app {self.app!r} is not open any more")
        return self._backend

    @property
    def producer(self) -> Producer:
        """Raises what ended the session, if something did."""
        if self._producer is None or self._over:
            raise self.failure or NotEntered(f"app {self.app!r} is not open any more")
        return self._producer

    def gone(self) -> bool:
        """Nobody can use this session: its loop has ended, this is a fork, or it failed and nobody holds it."""
        if self.pid != os.getpid() or (self._over and self.users == 0):
            return True
        loop: Any = self.token.native_token
        if isinstance(loop, asyncio.AbstractEventLoop):
            return loop.is_closed()
        try:
            loop.run_sync_soon(_nothing)
        except trio.RunFinishedError:
            return True
        return False

    async def ready(self) -> None:
        """Wait until it is open. A checkpoint. Raises what kept it from opening."""
        await self._opened.wait()
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """End it: what is on the wire gets ``CLOSING`` seconds. A checkpoint; not cut short by a cancelled caller."""
        self._stop.set()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSING):
                await self._ended.wait()
            self._scope.cancel()
            await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._live()
        except Exception as exc:
            self.failure = _plain(exc)
            if self._opened.is_set():
                log.error("the connection of app %r ended: %s", self.app, self.failure, exc_info=exc)
        finally:
            self._over = True
            if self._producer is not None:
                self._producer.close(self._told())
            self._opened.set()
            self._ended.set()

    def _told(self) -> FlowqError | None:
        if self.failure is None or isinstance(self.failure, FlowqError):
            return self.failure
        return Unavailable(f"the connection of app {self.app!r} ended by a defect: {self.failure!r}")

    async def _live(self) -> None:
        async with self._open_backend() as backend, anyio.create_task_group() as senders:
            self._backend = backend
            self._producer = Producer(backend, timeout=self._enqueue_timeout)
            self._producer.start(senders)
            self._opened.set()
            await self._stop.wait()
            with anyio.move_on_after(CLOSING / 2):
                await self._producer.drain()
            senders.cancel_scope.cancel()


class Gate:
    """An app's way in and out: at most one session at a time in a process, shared by all who entered."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._session: Session | None = None

    @property
    def open(self) -> bool:
        return self._session is not None and self._session.pid == os.getpid()

    def now(self) -> float:
        """Unix seconds: by the event loop's clock where that is a virtual one, so that producer and worker agree."""
        session = self._session
        return time.time() if session is None or session.pid != os.getpid() else session.wall()

    async def enter(self, begin: Callable[[], Session]) -> None:
        """Open, or join those who have opened it in this event loop. A checkpoint.

        Raises:
            NotEntered: it is open in another loop. FlowqError: what kept it from opening.
        """
        session = self._session
        if session is None or session.gone():
            session = self._session = begin()
        elif session.token != current_token():
            raise NotEntered(self._elsewhere())
        session.users += 1
        try:
            await session.ready()
        except BaseException:
            await self._let_go(session)
            raise

    async def leave(self) -> Exception | None:
        """The last one closes. Returns what ended the session before, if something did. A checkpoint."""
        session = self._session
        if session is None or session.pid != os.getpid() or session.token != current_token():
            await checkpoint()
            return None
        await self._let_go(session)
        return session.failure

    async def _let_go(self, session: Session) -> None:
        session.users -= 1
        if session.users:
            await checkpoint()
            return
        if self._session is session:
            self._session = None
        await session.close()

    def anywhere(self) -> Session:
        """The session of this process, in whatever loop. Raises NotEntered: there is none."""
        session = self._session
        if session is None or session.pid != os.getpid():
            raise NotEntered(
                f"app {self._app!r} is not open here: put `async with app:` around this, run it under flowq.run(app), or use "
                f"app.sync() where there is no event loop (an app that was opened before a fork is not open after it)"
            )
        return session

    def current(self) -> Session:
        """The session of this event loop.

        Raises:
            NotEntered: there is none.
        """
        session = self.anywhere()
        try:
            here = current_token()
        except anyio.NoEventLoopError:
            raise NotEntered(
                f"app {self._app!r}: no event loop runs in this thread; use app.sync() here"
            ) from None
        if session.token != here:
            raise NotEntered(self._elsewhere())
        return session

    def _elsewhere(self) -> str:
        return f"app {self._app!r} is open in another event loop: one app, one loop at a time; make a second App, or use app.sync()"


def _plain(exc: Exception) -> Exception:
    """The one error inside our own nurseries' groups: of several the one that says what to do."""
    while isinstance(exc, ExceptionGroup):
        exc = next((e for e in exc.exceptions if isinstance(e, FlowqError)), exc.exceptions[0])
    return exc


def _nothing() -> None:
    pass


def spawn_apart(run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Start a task that is nobody's child, in a clean context: a caller's context variables are not the connection's."""
    if isinstance(current_token().native_token, trio.lowlevel.TrioToken):
        trio.lowlevel.spawn_system_task(run, name=name)
    else:
        task = asyncio.get_running_loop().create_task(run(), name=name, context=contextvars.Context())
        _asyncio_tasks.add(task)
        task.add_done_callback(_asyncio_tasks.discard)
