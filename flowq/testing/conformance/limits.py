"""How much may run at once: declared, overridden, paused; in force for the very next claim."""

from __future__ import annotations

from flowq.testing.conformance.jobs import done, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_an_override_is_in_force_at_once(stage: Stage) -> None:
    """Raised: more start with the next claim. It wins over what is declared."""
    actor = await stage.join({"a": policy(1)})
    await stage.submit(count=9)
    assert len(await actor.take()) == 1
    await stage.backend.fleet.set_limit("a", 4)
    claimed = await actor.claim()
    assert len(claimed.grants) == 3
    assert claimed.limits == {"a": 4}


@clause
async def check_a_lowered_limit_takes_nothing_from_what_runs(stage: Stage) -> None:
    """Nothing new starts until fewer run than the new limit; what runs settles as ever."""
    actor = await stage.join({"a": policy(4)})
    await stage.submit(count=9)
    running = await actor.take()
    await stage.backend.fleet.set_limit("a", 2)
    for left in (3, 2, 2, 2):
        running = running[1:] + await actor.turn([done(running[0])])
        assert len(running) == left


@clause
async def check_a_reset_brings_the_declared_limit_back(stage: Stage) -> None:
    """``None`` is no limit of its own: it ends the override."""
    actor = await stage.join({"a": policy(2)})
    await stage.submit(count=9)
    await stage.backend.fleet.set_limit("a", 1)
    assert len(await actor.take()) == 1
    await stage.backend.fleet.set_limit("a", None)
    assert len(await actor.take()) == 1


@clause
async def check_an_override_survives_members_and_joins(stage: Stage) -> None:
    """A deploy does not undo what an operator set."""
    lanes = {"a": policy(5)}
    old = await stage.join(lanes)
    await stage.backend.fleet.set_limit("a", 2)
    new = await stage.join(lanes)
    await old.leave()
    await stage.submit(count=9)
    assert len(await new.take()) == 2


@clause
async def check_a_paused_lane_starts_nothing(stage: Stage) -> None:
    """Limited or not; other lanes go on; what runs is not touched."""
    actor = await stage.join({"a": policy(), "b": policy(3), "c": policy()})
    for lane in "abc":
        await stage.submit(lane, 2)
    [running] = await actor.take(1)
    paused = {"a", "b", "c"} - {"c"}
    for lane in paused:
        await stage.backend.fleet.pause(lane, True)
    assert {grant.lane for grant in await actor.take()} <= {"c"}
    await actor.finish(done(running))
    assert await actor.take() == []
    for lane in paused:
        await stage.backend.fleet.pause(lane, False)
    assert {grant.lane for grant in await actor.take()} == paused


@clause
async def check_a_pause_forgets_no_limit(stage: Stage) -> None:
    """Afterwards the override is in force again, or the declared limit, or none."""
    actor = await stage.join({"a": policy(5), "b": policy(2), "c": policy()})
    fleet = stage.backend.fleet
    await fleet.set_limit("a", 3)
    for lane in "abc":
        await stage.submit(lane, 9)
        await fleet.pause(lane, True)
    await fleet.set_limit("b", 1)
    assert await actor.take() == []
    for lane in "abc":
        await fleet.pause(lane, False)
    lanes = [grant.lane for grant in await actor.take()]
    assert (lanes.count("a"), lanes.count("b"), lanes.count("c")) == (3, 1, 9)


@clause
async def check_a_pause_and_its_end_may_be_said_twice(stage: Stage) -> None:
    """Pausing is a state, not a count."""
    actor = await stage.join()
    await stage.submit()
    for paused in (True, True, False, False):
        await stage.backend.fleet.pause("a", paused)
    assert len(await actor.take()) == 1


@clause
async def check_the_least_declared_limit_is_in_force(stage: Stage) -> None:
    """While versions of the code disagree, the careful one wins; the other one's holds when it has left."""
    careful = await stage.join({"a": policy(2)})
    bold = await stage.join({"a": policy(5)})
    await stage.submit(count=9)
    assert len(await bold.take()) == 2
    await careful.leave()
    assert len(await bold.take()) == 3


@clause
async def check_a_declared_limit_dies_with_its_member(stage: Stage) -> None:
    """The end of a lease counts like a goodbye."""
    careful = await stage.join({"a": policy(2)})
    bold = await stage.join({"a": policy(5)})
    await stage.submit(count=9)
    assert len(await bold.take()) == 2
    await stage.outlive(careful)
    assert len(await bold.take()) == 3


@clause
async def check_one_who_declares_a_limit_limits_those_who_do_not(stage: Stage) -> None:
    """No declaration is not the least."""
    bold = await stage.join({"a": policy()})
    await stage.join({"a": policy(2)})
    await stage.outwait_quarantine(bold)
    await stage.submit(count=9)
    assert len(await bold.take()) == 2


@clause
async def check_a_limit_on_a_lane_that_had_none_is_in_force_at_once(stage: Stage) -> None:
    """More may run than it allows; nothing starts until fewer do (I4)."""
    actor = await stage.join()
    await stage.submit(count=9)
    running = await actor.take(4)
    await stage.backend.fleet.set_limit("a", 2)
    await stage.outwait_quarantine(actor)
    assert await actor.take() == []
    await actor.finish(*map(done, running[:3]))
    assert len(await actor.take()) == 1
    await stage.backend.fleet.set_limit("a", None)
    assert len(await actor.take()) == 4


@clause
async def check_an_override_of_zero_starts_nothing(stage: Stage) -> None:
    """Nought is a limit."""
    actor = await stage.join({"a": policy(3)})
    await stage.submit()
    await stage.backend.fleet.set_limit("a", 0)
    assert await actor.take() == []
    await stage.backend.fleet.set_limit("a", None)
    assert len(await actor.take()) == 1


@clause
async def check_a_limit_may_be_set_before_anybody_serves_the_lane(stage: Stage) -> None:
    """An operator may be first."""
    await stage.backend.fleet.set_limit("a", 2)
    await stage.submit(count=5)
    actor = await stage.join({"a": policy(4)})
    assert len(await actor.take()) == 2
