"""What a worker says of the app as a whole: once a fleet, soon after it happened, and not again and again."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import attrs
import pytest

from flowq._fleet import Survey
from flowq._model import Submission
from flowq._runtime import housekeeping
from flowq.backends.protocol import Standing
from tests.runtime.conftest import Stage, virtually

pytestmark = virtually


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """The facts of an event so far."""
    caplog.set_level(logging.INFO, logger="flowq")
    return lambda event: [record.facts for record in caplog.records if getattr(record, "event", "") == event]


def with_task(stage: Stage, limit: int | None = None) -> Any:
    app = stage.app()

    @app.task(limit=limit)
    async def job() -> None: ...

    return app


async def a_look(looks: float = 1) -> None:
    await anyio.sleep(looks * 1.2 * housekeeping.EVERY)


async def test_a_task_that_nobody_serves(stage: Stage, said: Any) -> None:
    """Said by one of two workers once its oldest job is a minute old, again after ten minutes, and not once somebody serves it."""
    for _ in range(2):
        await stage.start(with_task(stage))
    stage.server.submit("b", [Submission("lonely", b'{"v":1,"task":"lonely"}')] * 3)
    await anyio.sleep(30)
    assert said("type.unserved") == []
    await a_look(2)
    [facts] = said("type.unserved")
    assert (facts["lane"], facts["waiting"]) == ("lonely", 3)
    assert 60 <= facts["age"] <= 200
    await anyio.sleep(housekeeping.AGAIN + 80)
    assert len(said("type.unserved")) == 2
    app = stage.app()

    @app.task
    async def lonely() -> None: ...

    await stage.start(app)
    await anyio.sleep(2 * housekeeping.AGAIN)
    assert len(said("type.unserved")) == 2


async def test_a_changed_limit(stage: Stage, said: Any) -> None:
    """Within seconds, by one worker of the fleet, with what was before and who did it."""
    app = with_task(stage, limit=3)
    for _ in range(3):
        await stage.start(app)
    async with app:
        await a_look()
        await app.set_limit("job", 5)
        await anyio.sleep(housekeeping.REST + 1)
        assert said("limit.changed") == [{"lane": "job", "limit": 5, "before": 3, "why": "set"}]
        await app.pause("job")
        await anyio.sleep(housekeeping.REST + 1)
        await app.resume("job")
        await anyio.sleep(housekeeping.REST + 1)
        await app.set_limit("job", None)
        await anyio.sleep(housekeeping.REST + 1)
    assert [(f["limit"], f["why"]) for f in said("limit.changed")[1:]] == [
        (0, "paused"),
        (5, "resumed"),
        (3, "reset"),
    ]


async def test_a_deploy_with_another_limit(stage: Stage, said: Any) -> None:
    """While old and new code disagree that is said, with the one in force; when the old has gone, that the limit changed, though
    the worker that spoke until then may be the one that went.
    """
    old, new = [await stage.start(with_task(stage, limit)) for limit in (3, 5)]
    await a_look()
    assert said("limit.disagrees") == [{"lane": "job", "limits": [3, 5], "limit": 3}]
    await old.drain()
    await a_look()
    assert said("limit.changed") == [{"lane": "job", "limit": 5, "before": 3, "why": "declared"}]
    assert len(said("limit.disagrees")) == 1
    assert new.stats().is_member


@pytest.fixture
def seen_as(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Change what the server answers to a look."""
    facts: dict[str, Any] = {}
    true = stage.server.survey

    def survey(me: Standing) -> Survey:
        found = true(me)
        ahead = facts.get("ahead", 0.0)
        more = {k: v for k, v in facts.items() if k != "ahead"}
        return attrs.evolve(found, time=(found.time or 0.0) + ahead, **more)

    monkeypatch.setattr(stage.server, "survey", survey)
    return facts


async def test_a_server_whose_clock_steps(stage: Stage, said: Any, seen_as: dict[str, Any]) -> None:
    """Said once, with the seconds."""
    await stage.start(with_task(stage))
    await a_look()
    seen_as["ahead"] = -3600.0
    await a_look(3)
    [facts] = said("clock.step")
    assert facts["seconds"] == pytest.approx(-3600, abs=1)


async def test_a_memory_that_fills(
    stage: Stage, said: Any, seen_as: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """From 90 % on as a warning, at 100 % as an error; and anew when it has been better meanwhile."""
    await stage.start(with_task(stage))
    for percent in (89.9, 91.0, 95.0, 100.2, 50.0, 92.0):
        seen_as["memory"] = percent
        await a_look()
    assert [facts["percent"] for facts in said("redis.full")] == [91.0, 100.2, 92.0]
    levels = [record.levelname for record in caplog.records if getattr(record, "event", "") == "redis.full"]
    assert levels == ["WARNING", "ERROR", "WARNING"]


async def test_an_unanswered_look_is_left_out(
    stage: Stage, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing depends on it: the worker goes on, and looks again."""
    from flowq import Unavailable

    worker = await stage.start(with_task(stage))
    looks: list[str] = []

    def survey(me: Standing) -> Survey:
        looks.append(me.member)
        raise Unavailable("not now")

    monkeypatch.setattr(stage.server, "survey", survey)
    await a_look(3)
    assert len(looks) >= 2
    assert worker.stats().is_member


async def test_dead_letters_near_their_bound(stage: Stage, said: Any, seen_as: dict[str, Any]) -> None:
    """From 80 % of it on, once."""
    await stage.start(with_task(stage))
    for letters in (79_999, 80_000, 90_000):
        seen_as["letters"] = letters
        await a_look()
    assert said("dead.filling") == [{"letters": 80_000, "bound": 100_000}]
