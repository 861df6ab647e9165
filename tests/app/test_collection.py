"""Registering tasks: names, collections, and the app that takes them."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import flowq


def work(n: int) -> int:
    return n


def test_names_and_aliases_are_lanes() -> None:
    """A renamed task serves the jobs that wait under its former names."""
    app = flowq.App("shop")

    task = app.task(name="img.resize", aliases=["resize", "scale"])(work)

    assert dict(app.tasks) == {"img.resize": task, "resize": task, "scale": task}
    assert (task.name, task.aliases) == ("img.resize", ("resize", "scale"))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "a:b"}, flowq.InvalidName, "task name 'a:b'"),
        ({"name": ""}, flowq.InvalidName, "task name ''"),
        ({"aliases": ["x{y}"]}, flowq.InvalidName, "'x{y}'"),
        ({"aliases": "old"}, flowq.ConfigurationError, "a list of names"),
        ({"aliases": ["work"]}, flowq.DuplicateTask, "'work'"),
        (
            {"name": "taken"},
            flowq.DuplicateTask,
            "two tasks are called 'taken': give one of them another name=",
        ),
        ({"name": "mine", "aliases": ["taken"]}, flowq.DuplicateTask, "'taken'"),
    ],
)
def test_names_that_would_break_something(options: Any, error: type[Exception], says: str) -> None:
    """Are refused at registration, and nothing of the task is registered then."""
    app = flowq.App("shop")
    app.task(name="taken")(work)

    with pytest.raises(error, match=says.replace("{", r"\{")):
        app.task(**options)(work)

    assert list(app.tasks) == ["taken"]


def test_a_function_whose_name_cannot_be_a_tasks() -> None:
    """The error says how to give it one."""

    def fn() -> None: ...

    fn.__name__ = "<lambda>"
    app = flowq.App("shop")
    with pytest.raises(
        flowq.InvalidName, match=r"'<lambda>' cannot be a task's name: pass @app\.task\(name=…\)"
    ):
        app.task(fn)

    assert app.task(name="fine")(fn).name == "fine"


def test_a_collection_goes_into_an_app() -> None:
    """A library's tasks get the app's prefix, and the app's defaults below their own options."""
    tasks = flowq.Tasks()
    plain = tasks.task(work)
    picky = tasks.task(name="picky", aliases=["choosy"], result_ttl=5)(work)
    app = flowq.App("shop", results=False, result_ttl=60)

    app.include(tasks, prefix="img.")
    late = tasks.task(name="late")(work)

    assert list(app.tasks) == ["img.work", "img.picky", "img.choosy", "img.late"]
    assert [task.name for task in (plain, picky, late)] == ["img.work", "img.picky", "img.late"]
    assert (plain.policy.results, plain.policy.result_ttl, picky.policy.result_ttl) == (False, 60, 5)


async def test_a_collection_without_an_app_submits_nothing() -> None:
    """The error says what is missing, whether the task or what options() made of it is used."""
    tasks = flowq.Tasks()
    task = tasks.task(work)
    delayed = task.options(delay=1)

    for handle in (task, delayed):
        with pytest.raises(flowq.NotEntered, match=r"app.include\(tasks\)"):
            await handle.enqueue(1)

    app = flowq.App("shop", "memory://")
    app.include(tasks)
    async with app:
        assert await (await delayed.enqueue(1)).status() is flowq.JobStatus.DELAYED


def test_a_collection_belongs_to_one_app() -> None:
    """A task cannot submit to two places."""
    tasks = flowq.Tasks()
    tasks.task(work)
    flowq.App("shop").include(tasks)

    with pytest.raises(flowq.ConfigurationError, match=r"part of app 'shop' already: .* make the Tasks"):
        flowq.App("other").include(tasks)


def test_a_clash_includes_nothing() -> None:
    """All or nothing, and the collection can be included under another prefix then."""
    tasks = flowq.Tasks()
    tasks.task(name="fresh")(work)
    tasks.task(work)
    app = flowq.App("shop")
    app.task(work)

    with pytest.raises(flowq.DuplicateTask, match="include the collection with another prefix="):
        app.include(tasks)
    app.include(tasks, prefix="b.")

    assert list(app.tasks) == ["work", "b.fresh", "b.work"]


def test_messages_use_the_full_name() -> None:
    """A task that was included is named as its operator knows it."""
    tasks = flowq.Tasks()
    task = tasks.task(work)
    flowq.App("shop", "memory://").include(tasks, prefix="lib.")

    with pytest.raises(flowq.InvalidArguments, match=r"task 'lib.work', parameter 'n'"):
        task.bind("x")  # type: ignore[arg-type]  # the point


async def test_modules_of_tasks_are_imported_when_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the app is made: the modules need the app."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flowq_test_tasks.py").write_text("")
    (tmp_path / "flowq_test_broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.delitem(sys.modules, "flowq_test_tasks", raising=False)
    app = flowq.App("shop", "memory://", imports=["flowq_test_tasks"])
    was_imported = "flowq_test_tasks" in sys.modules

    async with app:
        pass

    assert (was_imported, "flowq_test_tasks" in sys.modules) == (False, True)
    with pytest.raises(
        flowq.ConfigurationError, match=r"flowq_test_broken cannot be imported: .*nothing_of_that"
    ):
        flowq.App("shop", imports=["flowq_test_broken"]).load()


def test_around_job_keeps_the_order() -> None:
    """The first one registered is the outermost; the decorator gives the function back."""
    app = flowq.App("shop")

    @asynccontextmanager
    async def outer(job: flowq.RunningJob) -> Any:
        yield

    @asynccontextmanager
    async def inner(job: flowq.RunningJob) -> Any:
        yield

    assert [app.around_job(outer), app.around_job(inner)] == app._around == [outer, inner]
