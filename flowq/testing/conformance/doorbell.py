"""Who waits is woken when there is something to start; a ring lost now and then is made good by the worker's own poll."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from flowq.testing.conformance.actor import Actor
from flowq.testing.conformance.jobs import done, policy, released
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@asynccontextmanager
async def _waiting(stage: Stage, actor: Actor) -> AsyncGenerator[list[bool]]:
    """The block is entered while the actor waits for a ring, and left when that wait, which is a long one, has ended: with what it
    gives.
    """
    heard: list[bool] = []

    async def wait() -> None:
        heard.append(await actor.backend.stream.wait_ring(actor.me, 50 * stage.ttl))

    with anyio.fail_after(20 * stage.ttl):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            await stage.pass_time(stage.ttl / 4)
            assert heard == []
            yield heard


@clause
async def check_a_submit_rings(stage: Stage) -> None:
    """For a limited lane and for one that has no limit."""
    actor = await stage.join({"a": policy(), "b": policy(2)})
    for lane in "ab":
        await stage.quiet(actor)
        await stage.submit(lane)
        assert await stage.rings(actor), lane


@clause
async def check_silence_is_false(stage: Stage) -> None:
    """Nothing happened: the wait ends with its time."""
    actor = await stage.join()
    await stage.quiet(actor)
    assert not await stage.rings(actor)


@clause
async def check_a_ring_wakes_one_who_waits(stage: Stage) -> None:
    """Long before its time is over."""
    actor = await stage.join()
    await stage.quiet(actor)
    async with _waiting(stage, actor) as heard:
        await stage.submit()
    assert heard == [True]


@clause
async def check_one_ring_wakes_one_of_those_who_wait(stage: Stage) -> None:
    """One job does not make the whole fleet run for it."""
    actors = [await stage.join(backend=await stage.harness.another()) for _ in range(2)]
    await stage.quiet(*actors)
    heard: list[bool] = []

    async def wait(i: int) -> None:
        heard.append(await actors[i].backend.stream.wait_ring(actors[i].me, stage.ttl))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait, 0)
        tg.start_soon(wait, 1)
        await stage.pass_time(stage.ttl / 4)
        await stage.submit()
    assert sorted(heard) == [False, True]


@clause
async def check_only_those_who_serve_the_lane_hear_it(stage: Stage) -> None:
    """A ring for others would be a claim for nothing."""
    first = await stage.join({"a": policy(), "b": policy()})
    second = await stage.join({"b": policy()})
    third = await stage.join({"c": policy()})
    await stage.quiet(first, second, third)
    await stage.submit("a")
    assert [await stage.rings(actor) for actor in (first, second, third)] == [True, False, False]
    await stage.submit("b")
    assert [await stage.rings(actor) for actor in (first, second, third)] == [True, True, False]


@clause
async def check_a_settle_that_frees_a_token_rings(stage: Stage) -> None:
    """When its sender claims nothing itself, others may start what waits."""
    lanes = {"a": policy(1)}
    first, second = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=2)
    [grant] = await first.take(1)
    await stage.quiet(first, second)
    await first.finish(done(grant))
    assert await stage.rings(second)


@clause
async def check_a_hand_back_rings(stage: Stage) -> None:
    """One that is settled, one by ``mine``, one by leaving, one by a new life."""
    other = await stage.join()
    actor = await stage.join()
    await stage.submit(count=1)
    [grant] = await actor.take(1)

    await stage.quiet(other)
    await actor.finish(released(grant))
    assert await stage.rings(other), "settled"

    await actor.take(1)
    await stage.quiet(other)
    await actor.mine()
    assert await stage.rings(other), "mine"

    await actor.take(1)
    await stage.quiet(other)
    new = await stage.join(old=actor)
    assert await stage.rings(other), "new life"

    assert len(await new.take(1)) == 1
    await stage.quiet(other)
    await new.leave()
    assert await stage.rings(other), "left"


@clause
async def check_a_raised_limit_rings(stage: Stage) -> None:
    """So do a reset that raises, and the end of a pause."""
    actor = await stage.join({"a": policy(2)})
    fleet = stage.backend.fleet
    await stage.submit(count=9)
    await fleet.set_limit("a", 1)
    assert len(await actor.take()) == 1
    await stage.quiet(actor)
    await fleet.set_limit("a", None)
    assert await stage.rings(actor), "reset"
    await actor.take()
    await stage.quiet(actor)
    await fleet.set_limit("a", 3)
    assert await stage.rings(actor), "raised"
    await fleet.pause("a", True)
    await stage.quiet(actor)
    await fleet.pause("a", False)
    assert await stage.rings(actor), "resumed"


@clause
async def check_a_promoted_job_rings(stage: Stage) -> None:
    """Whoever moved it."""
    actor = await stage.join()
    await stage.submit(delay=stage.ttl)
    await stage.quiet(actor)
    await stage.pass_time(1.25 * stage.ttl)
    await stage.backend.timers.promote()
    assert await stage.rings(actor)


@clause
async def check_a_job_that_is_due_sooner_than_all_others_rings(stage: Stage) -> None:
    """Somebody may have gone to sleep until a later one (3.3)."""
    actor = await stage.join()
    await stage.submit(delay=40 * stage.ttl)
    await stage.quiet(actor)
    await stage.submit(delay=20 * stage.ttl)
    assert await stage.rings(actor)


@clause
async def check_the_end_of_a_lease_rings(stage: Stage) -> None:
    """Whoever notices it tells those who could adopt."""
    victim = await stage.join()
    heir = await stage.join()
    await stage.join({"b": policy()})
    await stage.submit()
    await victim.take()
    await stage.quiet(heir)
    await stage.outlive(victim)
    assert await stage.rings(heir)


@clause
async def check_a_claim_that_leaves_work_rings(stage: Stage) -> None:
    """Backlog and a free token: somebody with room could go on (the chain)."""
    for lane, limit in (("a", None), ("b", 3)):
        lanes = {lane: policy(limit)}
        first, second = await stage.join(lanes), await stage.join(lanes)
        await stage.outwait_quarantine(first)
        await stage.submit(lane, 3)
        await stage.quiet(first, second)
        assert len(await first.take(1)) == 1
        assert await stage.rings(second), lane


@clause
async def check_a_ring_that_reached_a_full_member_is_passed_on(stage: Stage) -> None:
    """A claim without room, which says that it was rung for."""
    first, second = await stage.join(), await stage.join()
    await stage.submit()
    await stage.quiet(first, second)
    await first.claim(0, ring=True)
    assert await stage.rings(second)


@clause
async def check_a_share_that_is_left_to_the_hungry_is_rung_for(stage: Stage) -> None:
    """Who leaves a token to others tells them."""
    lanes = {"a": policy(2)}
    greedy, hungry = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=9)
    running = await greedy.take()
    assert await hungry.take() == []
    await stage.quiet(greedy, hungry)
    assert await greedy.turn([done(running[0])]) == []
    assert await stage.rings(hungry)


@clause
async def check_stop_waiting_ends_a_wait(stage: Stage) -> None:
    """A worker without room must not eat the rings of others; it is False, for nobody rang."""
    actor = await stage.join()
    await stage.quiet(actor)
    async with _waiting(stage, actor) as heard:
        actor.backend.stream.stop_waiting()
    assert heard == [False]
    await stage.submit()
    assert await stage.rings(actor), "and it may wait again"


@clause
async def check_a_wait_may_be_cancelled(stage: Stage) -> None:
    """At any moment; later waits work as ever, and jobs are not lost by it."""
    actor = await stage.join()
    await stage.quiet(actor)
    with anyio.move_on_after(stage.ttl / 4) as scope:
        await actor.backend.stream.wait_ring(actor.me, 50 * stage.ttl)
    assert scope.cancelled_caught
    await stage.pass_time(stage.ttl / 16)
    await stage.submit()
    assert await stage.rings(actor)
    assert len(await actor.take()) == 1
