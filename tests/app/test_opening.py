"""Entering and leaving an app: one app, one loop at a time, no scope held over the user's code."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
import trio

import flowq
from flowq._errors import AuthenticationFailed, FlowqError
from flowq._session import Session
from flowq.backends.memory import MemoryServer, open_memory
from flowq.backends.protocol import Backend


@asynccontextmanager
async def refuses() -> AsyncIterator[Backend]:
    async with anyio.create_task_group():
        raise AuthenticationFailed("wrong password")
    yield  # type: ignore[misc]  # never reached; makes it a generator


def with_place(app: flowq.App[Any], place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "opener", lambda: place)


async def test_it_may_be_entered_again_inside(app: flowq.App[None]) -> None:
    """The last one to leave closes; both see one connection."""
    async with app:
        outer = app.session()
        async with app:
            assert app.session() is outer
        assert app.session() is outer

    with pytest.raises(flowq.NotEntered, match="'shop' is not open here"):
        app.session()


async def test_tasks_of_a_loop_share_one_opening(app: flowq.App[None]) -> None:
    """Whoever comes while it opens waits for it; whoever leaves first leaves it open for the others."""
    sessions = set()

    async def use(n: int) -> None:
        async with app:
            sessions.add(app.session())
            await anyio.sleep(0.001 * n)
            sessions.add(app.session())

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(use, n)

    assert len(sessions) == 1
    assert not app._gate.open


def test_it_may_be_entered_in_one_loop_after_another(app: flowq.App[None]) -> None:
    """Its jobs are still there: nothing of the app belongs to a loop but what was open in it."""
    ids: list[str] = []

    async def submit() -> list[str]:
        async with app:
            ids.append((await app.enqueue("work")).id)
            return [await app.job(job_id).status() for job_id in ids]

    assert [trio.run(submit), asyncio.run(submit()), trio.run(submit)] == [["ready"] * n for n in (1, 2, 3)]


def test_a_loop_that_ended_without_leaving_is_no_obstacle(app: flowq.App[None]) -> None:
    """A harness that throws its loop away does not poison the app for the next test."""

    async def enter() -> None:
        await app.__aenter__()

    for run in (trio.run, lambda f: asyncio.run(f()), trio.run):
        run(enter)
        assert app._gate._session is not None
        assert app._gate._session.gone()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_it_is_entered_in_one_task_and_left_in_another(app: flowq.App[None]) -> None:
    """As a fixture of pytest-asyncio does; a cancel scope held in between would break."""
    await asyncio.create_task(app.__aenter__())
    job = await asyncio.create_task(app.enqueue("work"))
    await asyncio.create_task(app.__aexit__(None, None, None))

    assert job.id.startswith("work:")
    assert not app._gate.open


async def test_no_context_of_the_user_gets_into_the_connection(app: flowq.App[None]) -> None:
    """A tenant's variable must not live on in what all tenants share."""
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen = []

    @asynccontextmanager
    async def place() -> AsyncIterator[Backend]:
        seen.append(tenant.get())
        async with open_memory(MemoryServer()) as backend:
            yield backend

    tenant.set("acme")
    app.opener = lambda: place  # type: ignore[method-assign]  # the seam between app and backend
    async with app:
        pass

    assert seen == ["nobody"]


async def test_the_users_exceptions_leave_as_they_are(app: flowq.App[None]) -> None:
    """No group of ours around them."""
    with pytest.raises(KeyError, match="mine"):
        async with app:
            raise KeyError("mine")


async def test_a_cancelled_user_leaves_at_once(app: flowq.App[None]) -> None:
    """The exit closes the connection all the same, and the cancellation goes on."""
    with anyio.move_on_after(0.01) as scope:
        async with app:
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert not app._gate.open


async def test_what_keeps_it_from_opening_is_one_plain_error(
    app: flowq.App[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups of our own nurseries do not reach the user, and the app can be entered later."""
    with monkeypatch.context() as patch:
        with_place(app, refuses, patch)
        with pytest.raises(AuthenticationFailed, match="wrong password"):
            async with app:
                pytest.fail("it must not open")

    async with app:
        await app.enqueue("work")


async def test_a_connection_that_ends_inside_says_so(
    app: flowq.App[None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls raise what ended it, waiting or not; so does the exit, unless the user's own exception is on its way."""
    end = anyio.Event()

    @asynccontextmanager
    async def ends() -> AsyncIterator[Backend]:
        async with open_memory(MemoryServer()) as backend, anyio.create_task_group() as tasks:

            async def fail() -> None:
                await end.wait()
                raise AuthenticationFailed("the password was changed")

            tasks.start_soon(fail)
            yield backend

    with_place(app, ends, monkeypatch)
    inside: list[BaseException] = []

    async def use(mine: Exception | None) -> None:
        async with app:
            end.set()
            await app.session()._ended.wait()
            try:
                await app.enqueue("work")
            except FlowqError as error:
                inside.append(error)
            if mine is not None:
                raise mine

    with pytest.raises(AuthenticationFailed, match="was changed"):
        await use(None)
    with pytest.raises(KeyError):
        await use(KeyError("mine"))

    assert [type(error) for error in inside] == [AuthenticationFailed] * 2
    assert "the connection of app 'shop' ended: the password was changed" in caplog.text


async def test_an_app_is_open_in_one_loop_only(app: flowq.App[None]) -> None:
    """In another loop and in a thread without one the error names the ways out."""

    async def use() -> None:
        await app.enqueue("work")

    async def enter() -> None:
        async with app:
            pass

    def no_loop() -> None:
        app.session()

    async with app:
        for call in (partial(trio.run, use), partial(trio.run, enter)):
            with pytest.raises(flowq.NotEntered, match=r"open in another event loop: .* make a second App"):
                await anyio.to_thread.run_sync(call)
        with pytest.raises(flowq.NotEntered, match=r"no event loop runs in this thread; use app.sync\(\)"):
            await anyio.to_thread.run_sync(no_loop)


async def test_an_app_is_not_open_after_a_fork(app: flowq.App[None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has copies of the sockets and must not talk over them; entering again opens its own."""
    async with app:
        parents = app.session()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(flowq.NotEntered, match="before a fork"):
                app.session()
            async with app:
                assert app.session() is not parents
        app._gate._session = parents


def test_open_apps_do_not_outlive_the_loop(app: flowq.App[None]) -> None:
    """An app that nobody left ends with its loop, without a complaint of the loop."""

    async def forget() -> Session:
        await app.__aenter__()
        return app.session()

    for session in (trio.run(forget), asyncio.run(forget())):
        assert session._over
    assert threading.active_count() < 50


def test_every_error_of_opening_is_ours() -> None:
    """One except clause."""
    assert issubclass(flowq.NotEntered, FlowqError)
    assert issubclass(flowq.NoServer, flowq.ConfigurationError)
