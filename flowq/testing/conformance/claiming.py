"""Who may start what: credit, limits, order, standing."""

from __future__ import annotations

import attrs

from flowq._model import Status, Want
from flowq.testing.conformance.jobs import done, job_id, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_jobs_start_in_the_order_of_their_submit(stage: Stage) -> None:
    """Oldest first, over several claims, too."""
    actor = await stage.join()
    ids = await stage.submit(count=3) + await stage.submit(count=3)
    grants = await actor.take(2) + await actor.take(1) + await actor.take()
    assert [job_id(grant) for grant in grants] == ids


@clause
async def check_a_claim_never_grants_more_than_there_is_room_for(stage: Stage) -> None:
    """``room`` is for all lanes together, and none is nothing."""
    actor = await stage.join({"a": policy(), "b": policy(), "c": policy(50)})
    for lane in "abc":
        await stage.submit(lane, 10)
    assert await actor.take(0) == []
    assert len(await actor.take(7)) == 7
    assert len(await actor.take(1)) == 1
    assert len(await actor.take()) == 22


@clause
async def check_extra_is_taken_beyond_the_room_by_its_lane_alone(stage: Stage) -> None:
    """Jobs of unlimited lanes that end at once may be taken beyond the room, as many as the worker says."""
    actor = await stage.join({"a": policy(), "b": policy()})
    await stage.submit("a", 10)
    await stage.submit("b", 10)
    claimed = await actor.claim(2, extra={"a": 3})
    assert 2 <= len(claimed.grants) <= 5
    assert sum(grant.lane == "b" for grant in claimed.grants) <= 2
    claimed = await actor.claim(0, extra={"a": 3})
    assert 0 < sum(grant.lane == "a" for grant in claimed.grants) <= 3
    assert all(grant.lane == "a" for grant in claimed.grants)


@clause
async def check_a_limited_lane_gets_nothing_extra(stage: Stage) -> None:
    """What a limit allows must be able to start at once: no token waits behind a busy consumer."""
    actor = await stage.join({"a": policy(5)})
    await stage.submit("a", 10)
    assert len((await actor.claim(2, extra={"a": 3})).grants) == 2


@clause
async def check_sync_lanes_are_claimed_for_free_threads(stage: Stage) -> None:
    """A lane of plain functions gets as many as there are free threads, and never more than the room."""
    actor = await stage.join({"a": policy(sync=True), "b": policy()})
    await stage.submit("a", 10)
    assert (await actor.claim(5, threads=0)).grants == []
    assert len((await actor.claim(5, threads=2)).grants) == 2
    assert len((await actor.claim(3, threads=9)).grants) == 3
    await stage.submit("b", 10)
    grants = (await actor.claim(8, threads=1)).grants
    assert sum(grant.lane == "a" for grant in grants) <= 1
    assert len(grants) <= 8


@clause
async def check_a_member_gets_only_lanes_that_it_serves(stage: Stage) -> None:
    """The lanes that it stated when it joined, and no other."""
    first = await stage.join({"a": policy()})
    second = await stage.join({"b": policy()})
    await stage.submit("a", 2)
    await stage.submit("b", 2)
    await stage.submit("c", 2)
    assert {grant.lane for grant in await first.take()} == {"a"}
    assert {grant.lane for grant in await second.take()} == {"b"}


@clause
async def check_jobs_that_came_before_the_first_worker_are_delivered(stage: Stage) -> None:
    """A lane exists from its first job on, served or not."""
    ids = await stage.submit(count=2)
    actor = await stage.join()
    assert [job_id(grant) for grant in await actor.take()] == ids


@clause
async def check_a_job_is_delivered_to_one_member(stage: Stage) -> None:
    """However many claim at once."""
    actors = [await stage.join(backend=await stage.harness.another()) for _ in range(3)]
    ids = await stage.submit(count=30)
    grants = [grant for _ in range(30) for actor in actors for grant in await actor.take(1)]
    assert sorted(map(job_id, grants)) == sorted(ids)


@clause
async def check_a_limit_holds_over_all_members(stage: Stage) -> None:
    """Never more than the limit in flight, however the claims are spread (P2)."""
    lanes = {"a": policy(3)}
    first = await stage.join(lanes)
    second = await stage.join(lanes, backend=await stage.harness.another())
    await stage.submit(count=20)
    running = [(first, grant) for grant in await first.take(2)]
    running += [(second, grant) for grant in await second.take()]
    assert len(running) == 3
    assert await first.take() == []
    for _ in range(8):
        actor, grant = running.pop(0)
        await actor.finish(done(grant))
        running += [(claimer, grant) for claimer in (second, first) for grant in await claimer.take()]
        assert len(running) == 3


@clause
async def check_a_settle_and_its_claim_reuse_the_token(stage: Stage) -> None:
    """What ends and what starts in its place pass in one exchange: a freed token is used at once (P3)."""
    actor = await stage.join({"a": policy(2)})
    await stage.submit(count=6)
    running = await actor.take()
    for _ in range(4):
        running = running[1:] + await actor.turn([done(running[0])])
        assert len(running) == 2
    assert await actor.turn([done(running[0])]) == []


@clause
async def check_a_token_that_one_member_frees_serves_another(stage: Stage) -> None:
    """A limit belongs to the fleet, not to who used it first."""
    first = await stage.join({"a": policy(1)})
    second = await stage.join({"a": policy(1)})
    await stage.submit(count=2)
    [grant] = await first.take()
    assert await second.take() == []
    await first.finish(done(grant))
    assert len(await second.take()) == 1


@clause
async def check_grants_name_the_limit_in_force(stage: Stage) -> None:
    """A claim says the limit of each limited lane that it grants from, and nothing of unlimited ones."""
    actor = await stage.join({"a": policy(3), "b": policy()})
    await stage.submit("a", 1)
    await stage.submit("b", 1)
    assert (await actor.claim()).limits == {"a": 3}


@clause
async def check_a_first_delivery_has_n_1_and_no_crash(stage: Stage) -> None:
    """And it bears the epoch of the member that may start it."""
    actor = await stage.join()
    await stage.submit(count=2)
    for grant in await actor.take():
        assert (grant.n, grant.crashes, grant.epoch) == (1, 0, actor.epoch)


@clause
async def check_fences_grow_with_every_grant(stage: Stage) -> None:
    """Unique over members and lanes, later ones greater, and greater than any that the caller has seen."""
    lanes = {"a": policy(), "b": policy(50)}
    first = await stage.join(lanes)
    second = await stage.join(lanes)
    await stage.submit("a", 4)
    await stage.submit("b", 4)
    fences = [grant.fence for _ in range(4) for actor in (first, second) for grant in await actor.take(1)]
    assert len(fences) == 8
    assert fences == sorted(set(fences))
    first.fence = seen = fences[-1] + 10**9
    await stage.submit("a", 1)
    [grant] = await first.take()
    assert grant.fence > seen


@clause
async def check_no_lane_starves_another(stage: Stage) -> None:
    """With room for one at a time, every lane that has work gets its turn."""
    lanes = {name: policy() for name in "abc"}
    actor = await stage.join(lanes)
    for lane in lanes:
        await stage.submit(lane, 20)
    served = [grant.lane for _ in range(15) for grant in await actor.take(1)]
    assert len(served) == 15
    assert set(served) == {"a", "b", "c"}


@clause
async def check_who_is_no_member_gets_nothing(stage: Stage) -> None:
    """A claim under an id that never joined, or has left, is LOST."""
    actor = await stage.join()
    await stage.submit(count=2)
    stranger = attrs.evolve(actor.me, member="nobody")
    exchanged = await stage.backend.stream.exchange(stranger, [], Want(5, 0, {}))
    assert exchanged.claimed is not None
    assert exchanged.claimed.status is Status.LOST
    await actor.leave()
    claimed = await actor.claim()
    assert claimed.status is Status.LOST
    assert claimed.grants == []


@clause
async def check_a_claim_of_an_older_session_gets_nothing(stage: Stage) -> None:
    """It was sent over a connection that broke: nobody would hear of its grants (W5)."""
    actor = await stage.join()
    await stage.submit(count=2)
    old = actor.me
    await actor.mine()
    exchanged = await stage.backend.stream.exchange(old, [], Want(5, 0, {}))
    assert exchanged.claimed is not None
    assert exchanged.claimed.status is Status.STALE
    assert exchanged.claimed.grants == []
    assert len(await actor.take()) == 2


@clause
async def check_a_claim_of_another_epoch_gets_nothing(stage: Stage) -> None:
    """Its member does not know yet that the server forgot (or is about to learn that it did not)."""
    actor = await stage.join({"a": policy(), "b": policy(2)})
    await stage.submit(count=2)
    epoch, actor.epoch = actor.epoch, "another"
    claimed = await actor.claim()
    assert claimed.status is Status.EPOCH
    assert claimed.grants == []
    actor.epoch = epoch
    assert len(await actor.take()) == 2


@clause
async def check_a_claim_says_when_the_next_lease_of_another_ends(stage: Stage) -> None:
    """So that a worker looks for orphans in time."""
    actor = await stage.join()
    other = await stage.join()
    other.alive = False
    await stage.pass_time(stage.ttl / 4)
    expiry = (await actor.claim()).next_expiry
    assert expiry is not None
    assert 0 < expiry <= stage.ttl
