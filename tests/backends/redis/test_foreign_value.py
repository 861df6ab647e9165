"""A value of somebody else's under one lane's key: that lane is set aside, all others go on, and nothing of theirs is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import attrs
import pytest

import flowq
from flowq._runtime import housekeeping
from tests.backends.redis.conftest import Server
from tests.conftest import leaks
from tests.worker.conftest import Shop, Witness, open_shop, until


@attrs.frozen
class Scene:
    """A shop with a lane that will be spoilt and others."""

    shop: Shop
    client: Any
    seen: Witness

    def app(self, *names: str) -> flowq.App[Any]:
        app = self.shop.app()
        for name in names:

            async def body(number: int, seconds: float = 0.0) -> int:
                return int(await self.seen.body(number, seconds))

            app.task(name=name, limit=3 if name == "few" else None, retries=0)(body)
        return app

    def spoil(self) -> None:
        self.client.set(self.shop.key("s:bad"), "foo")

    def mend(self) -> None:
        self.client.delete(self.shop.key("s:bad"))


@pytest.fixture
async def scene(
    anyio_backend: object, new_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Scene]:
    server = new_server()
    async with open_shop(server, "spoilt", caplog) as shop:
        with server.client() as client:
            yield Scene(shop, client, Witness())


async def results(app: flowq.App[Any], name: str, numbers: range, seconds: float = 0.0) -> list[int]:
    jobs = await app.enqueue_many(app.tasks[name].bind(n, seconds) for n in numbers)
    return [await job.result(timeout=20) for job in jobs]


async def test_other_lanes_go_on_and_nothing_of_theirs_is_lost(scene: Scene) -> None:
    """Two workers at work when it happens: each says which key and stays; every job of the other lanes runs."""
    app = scene.app("bad", "few", "many")
    workers = [await scene.shop.start(app, concurrency=8) for _ in range(2)]
    scene.shop.end_quarantine()
    async with app:
        assert await results(app, "bad", range(3)) == [0, 1, 2]
        found: dict[str, list[int]] = {}

        async def go_through(name: str, seconds: float) -> None:
            found[name] = await results(app, name, range(40), seconds)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_through, "few", 0.02)
            tasks.start_soon(go_through, "many", 0.05)
            await app.enqueue_many(app.tasks["bad"].bind(n, 0.02) for n in range(200))
            await until(lambda: scene.seen.running >= 3, "they run")
            scene.spoil()
        assert found == {"few": list(range(40)), "many": list(range(40))}
        said = [(record.facts["lane"], record.facts["key"]) for record in scene.shop.said("lane.foreign")]
        assert set(said) == {("bad", "flowq:{spoilt}:s:bad")}
        assert len(said) <= 2
        assert all(worker.stats().is_member for worker in workers)
        scene.mend()
    for worker in workers:
        await worker.drain()
    assert leaks(scene.client, "spoilt") == []


async def test_a_worker_that_starts_beside_it(scene: Scene) -> None:
    """It serves the others from the start; who submits to the spoilt lane is told."""
    app = scene.app("bad", "many")
    scene.spoil()
    async with app:
        await scene.shop.start(app)
        assert await results(app, "many", range(5)) == list(range(5))
        with pytest.raises(flowq.ForeignValue, match="flowq doctor"):
            await app.enqueue("bad", 1)
        assert scene.shop.said("lane.foreign")


async def test_it_is_seen_before_any_call_meets_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane without work is looked at, too."""
    monkeypatch.setattr(housekeeping, "EVERY", 0.2)
    monkeypatch.setattr(housekeeping, "REST", 0.05)
    worker = await scene.shop.start(scene.app("bad", "many"))
    await until(lambda: not scene.client.smembers(scene.shop.key("types")) - {"bad", "many"}, "it serves")
    await anyio.sleep(0.1)
    scene.spoil()
    await until(lambda: scene.shop.said("lane.foreign"), "it is said")
    await anyio.sleep(0.5)
    assert len(scene.shop.said("lane.foreign")) == 1
    assert worker.stats().is_member


async def test_it_is_served_again_when_the_value_has_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart: by the worker's own look, once a minute."""
    monkeypatch.setattr(housekeeping, "EVERY", 0.2)
    monkeypatch.setattr(housekeeping, "REST", 0.05)
    app = scene.app("bad", "many")
    worker = await scene.shop.start(app)
    async with app:
        await app.enqueue_many(app.tasks["bad"].bind(n, 0.1) for n in range(200))
        scene.spoil()
        await until(lambda: worker.stats().leases_lost == 1, "it is set aside")
        scene.mend()
        await until(lambda: scene.shop.said("lane.back"), "it is taken back")
        assert await results(app, "bad", range(5)) == list(range(5))
        assert await results(app, "many", range(5)) == list(range(5))
    assert [record.facts for record in scene.shop.said("lane.back")] == [{"lane": "bad"}]


async def test_a_due_job_of_a_spoilt_lane_waits(scene: Scene) -> None:
    """Whoever calls makes due jobs ready, whichever lane they belong to: the call goes well, and the job is kept. It is looked at
    again after a minute (here the waiting clock is moved on instead), and runs.
    """
    app, other = scene.app("bad", "many"), scene.app("many")
    delayed = scene.shop.key("delayed")
    async with app:
        job = await app.tasks["bad"].options(delay=0.2).enqueue(1)
        (due,) = scene.client.zrange(delayed, 0, -1, withscores=True)
        scene.spoil()
        worker = await scene.shop.start(other)
        await until(lambda: scene.client.zscore(delayed, job.id) != due[1], "it was looked at")
        assert scene.client.zscore(delayed, job.id) >= due[1] + 60_000
        assert await results(app, "many", range(5)) == list(range(5))
        assert worker.stats().leases_lost == 0
        scene.mend()
        scene.client.zadd(delayed, {job.id: due[1]})
        await scene.shop.start(app)
        assert await job.result(timeout=20) == 1


async def test_a_batch_with_a_spoilt_lane_is_refused_as_a_whole(scene: Scene) -> None:
    """Nothing of it is stored, not for the other lanes nor among the delayed jobs, so that it can be sent again."""
    app = scene.app("bad", "many")
    scene.spoil()
    before = set(scene.client.keys("*"))
    async with app:
        for batch in (
            [app.tasks["many"].bind(1), app.tasks["bad"].bind(1)],
            [app.tasks["many"].options(delay=60).bind(1), app.tasks["bad"].options(delay=60).bind(1)],
        ):
            with pytest.raises(flowq.ForeignValue, match="flowq doctor"):
                await app.enqueue_many(batch)
    stored = set(scene.client.keys("*")) - before
    assert not [key for key in stored if key != scene.shop.key("layout")]


async def test_a_claim_that_meets_it_forgets_nothing(scene: Scene) -> None:
    """The value is not taken for a server that forgot: there is no new epoch, no quarantine."""
    app = scene.app("bad", "few", "many")
    worker = await scene.shop.start(app)
    epoch = scene.client.hget(scene.shop.key("clock"), "ep")
    async with app:
        scene.spoil()
        (pool,) = scene.client.smembers(scene.shop.key("pools"))
        scene.client.sadd(scene.shop.key(f"ready:{pool}"), "bad")
        assert await results(app, "many", range(5)) == list(range(5))
        await until(lambda: worker.stats().leases_lost == 1, "it is set aside")
        assert await results(app, "few", range(5)) == list(range(5))
    assert scene.client.hget(scene.shop.key("clock"), "ep") == epoch


async def test_a_value_in_no_lane_ends_a_worker(scene: Scene) -> None:
    """After a second of trying: it cannot be worked around, and may have gone by itself."""
    scene.client.set(scene.shop.key("delayed"), "foo")
    with pytest.raises(flowq.ForeignValue, match="`flowq doctor` names it"):
        await flowq.run(scene.app("many"))


async def test_a_worker_that_serves_nothing_else_ends(scene: Scene) -> None:
    """With an error that leads to the key."""
    app = scene.app("bad")
    scene.spoil()
    with pytest.raises(flowq.ForeignValue, match="`flowq doctor` names it"):
        await flowq.run(app)
    assert [record.facts["lane"] for record in scene.shop.said("lane.foreign")] == ["bad"]
