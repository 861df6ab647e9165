"""What the dead leave is taken over: once, counted, and never beyond a limit."""

from __future__ import annotations

from flowq._model import Delivery, JobStatus
from flowq.testing.conformance.actor import Actor
from flowq.testing.conformance.jobs import done, job_id, policy, released
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_a_dead_members_job_starts_elsewhere(stage: Stage) -> None:
    """Once its lease has ended, and not before; the crash is counted, and n is one more (P5)."""
    first = await stage.join()
    second = await stage.join()
    job = await stage.submit_one()
    [lost] = await first.take()
    first.alive = False
    await stage.pass_time(stage.ttl / 2)
    assert await second.take() == []
    await stage.outlive(first)
    [grant] = await second.take()
    assert (job_id(grant), grant.n, grant.crashes) == (job, 2, 1)
    assert grant.fence > lost.fence
    assert grant.raw == lost.raw
    await second.finish(done(grant))
    assert await second.take() == []


@clause
async def check_the_dead_are_served_before_the_new_oldest_first(stage: Stage) -> None:
    """Over several dead members, too."""
    first, second = await stage.join(), await stage.join()
    heir = await stage.join({"a": policy(), "b": policy()})
    ids = await stage.submit(count=6)
    for actor in (first, second, first, second):
        await actor.take(1)
    await stage.outlive(first, second)
    assert [job_id(grant) for grant in await heir.take()] == ids


@clause
async def check_a_job_is_adopted_once(stage: Stage) -> None:
    """By whoever comes first; the crash is counted once."""
    victim, first, second = await stage.join(), await stage.join(), await stage.join()
    await stage.submit()
    await victim.take()
    await stage.outlive(victim)
    assert len(await first.take()) == 1
    assert await second.take() == []


@clause
async def check_adoption_needs_no_free_token(stage: Stage) -> None:
    """The job brings its token along: a limit that the dead have used up starves nobody (W1)."""
    lanes = {"a": policy(1)}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    ids = await stage.submit(count=2)
    await victim.take()
    await stage.outlive(victim)
    [grant] = await heir.take()
    assert job_id(grant) == ids[0]


@clause
async def check_the_end_of_a_lease_frees_no_token(stage: Stage) -> None:
    """Beside what the dead hold, nothing new starts beyond the limit; adopting frees nothing either."""
    victim = await stage.join({"a": policy(3), "b": policy()})
    heir = await stage.join({"a": policy(3)})
    await stage.submit(count=9)
    assert len(await victim.take(2)) == 2
    await stage.outlive(victim)
    taken = await heir.take()
    assert len(taken) == 3
    assert sorted(grant.n for grant in taken) == [1, 2, 2]


@clause
async def check_nothing_is_adopted_in_a_paused_lane(stage: Stage) -> None:
    """Paused means that nothing starts, whoever left it (W2)."""
    lanes = {"a": policy(2)}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=3)
    assert len(await victim.take()) == 2
    await stage.backend.fleet.pause("a", True)
    await stage.outlive(victim)
    assert await heir.take() == []
    await stage.backend.fleet.pause("a", False)
    assert len(await heir.take()) == 2


@clause
async def check_adoption_is_bounded_by_what_the_living_hold(stage: Stage) -> None:
    """With a limit that was lowered, the dead's jobs wait until the living hold fewer than it."""
    lanes = {"a": policy(4)}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=4)
    await victim.take(2)
    held = await heir.take()
    assert len(held) == 2
    await stage.backend.fleet.set_limit("a", 2)
    await stage.outlive(victim)
    assert await heir.take() == []
    await heir.finish(done(held[0]))
    assert len(await heir.take()) == 1


async def crash(stage: Stage, victim: Actor, heir: Actor) -> tuple[Actor, list[Delivery]]:
    """The victim dies with what it holds, ``heir`` adopts; a newcomer is there for the next crash."""
    await stage.outlive(victim)
    grants = await heir.take()
    return await stage.join(), grants


@clause
async def check_a_job_that_crashes_too_often_is_a_dead_letter(stage: Stage) -> None:
    """``max_crashes`` deaths, and it ends with a record for whoever waits; its key and token are free again."""
    victim, heir = await stage.join(), await stage.join()
    job = await stage.submit_one(key="k")
    await victim.take()
    for crashes in (1, 2):
        newcomer, grants = await crash(stage, victim, heir)
        assert [grant.crashes for grant in grants] == [crashes]
        victim, heir = heir, newcomer
    await stage.outlive(victim)
    claimed = await heir.claim()
    assert claimed.grants == []
    assert claimed.dead == 1
    kept = await stage.backend.results.wait(job, 0)
    assert kept is not None
    assert (kept.status, kept.kind) == ("dead", "crashed")
    assert await stage.submit_one(key="k") != job


@clause
async def check_without_max_crashes_a_job_is_tried_for_ever(stage: Stage) -> None:
    """None is no number that could be reached."""
    lanes = {"a": policy(max_crashes=None)}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    await stage.submit()
    await victim.take()
    for crashes in range(1, 6):
        await stage.outlive(victim)
        [grant] = await heir.take()
        assert grant.crashes == crashes
        victim, heir = heir, await stage.join(lanes)


@clause
async def check_suspects_run_apart(stage: Stage) -> None:
    """A job that is one crash short of the end runs in no member beside another such: one of them is innocent (2.2)."""
    lanes = {"a": policy(max_crashes=2)}
    victim, first, second = [await stage.join(lanes) for _ in range(3)]
    await stage.submit(count=3)
    taken = [grant for _ in range(3) for grant in await victim.take(1)]
    assert len(taken) == 3
    await stage.outlive(victim)
    [one] = await first.take()
    assert await first.take() == []
    [two] = await second.take()
    assert (one.crashes, two.crashes) == (1, 1)
    await stage.submit(count=1)
    [fresh] = await first.take()
    assert fresh.crashes == 0, "what is no suspect goes on beside it"
    await first.finish(done(one))
    assert [grant.crashes for grant in await first.take()] == [1], "its suspect has ended: the next one"


@clause
async def check_a_suspect_that_waits_keeps_its_token(stage: Stage) -> None:
    """Beside one that nobody may adopt yet, nothing new starts beyond the limit."""
    lanes = {"a": policy(2, max_crashes=2)}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=5)
    assert len(await victim.take()) == 2
    await stage.outlive(victim)
    [suspect] = await heir.take()
    assert await heir.take() == []
    grants = await heir.turn([done(suspect)])
    assert sorted(grant.crashes for grant in [suspect, *grants]) == [0, 1, 1], "the other one, and a new one"


@clause
async def check_one_poison_job_condemns_no_innocent_one(stage: Stage) -> None:
    """The job that kills its workers is the only dead letter; its neighbours end well."""
    await stage.join({"b": policy()})
    worker = await stage.join()
    ids = await stage.submit(count=8)
    poison = ids[3]
    ended, dead = set[str](), 0
    for _ in range(30):
        claimed = await worker.claim()
        dead += claimed.dead
        held = {job_id(grant): grant for grant in claimed.grants}
        if poison in held:
            await stage.outlive(worker)
            worker = await stage.join()
        else:
            await worker.finish(*map(done, held.values()))
            ended |= held.keys()
    assert dead == 1
    assert ended == set(ids) - {poison}
    assert await stage.backend.results.status(poison) is JobStatus.DEAD


@clause
async def check_crashes_are_kept_by_a_hand_back(stage: Stage) -> None:
    """It is no crash, but it forgets none either."""
    victim, heir = await stage.join(), await stage.join()
    await stage.submit()
    await victim.take()
    await stage.outlive(victim)
    [grant] = await heir.take()
    await heir.finish(released(grant))
    [grant] = await heir.take()
    assert (grant.crashes, grant.n) == (1, 3)


@clause
async def check_a_job_whose_lanes_owner_died_unserved_is_found_later(stage: Stage) -> None:
    """It waits for the first member that serves its lane, however long after the death."""
    victim = await stage.join({"b": policy()})
    witness = await stage.join({"a": policy()})
    job = await stage.submit_one("b")
    await victim.take()
    await stage.outlive(victim)
    assert await witness.take() == []
    heir = await stage.join({"b": policy()})
    assert [job_id(grant) for grant in await heir.take()] == [job]
