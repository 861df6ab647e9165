"""One lease a member: joined, renewed, lost, left; and what becomes of what it held."""

from __future__ import annotations

from flowq._model import Refusal, Status
from flowq.testing.conformance.jobs import done, job_id, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_every_life_has_an_id_of_its_own(stage: Stage) -> None:
    """A member never comes back under the same id, and all members learn the same epoch."""
    actors = [await stage.join() for _ in range(4)]
    assert len({actor.member for actor in actors}) == 4
    assert len({actor.epoch for actor in actors}) == 1


@clause
async def check_a_lease_that_is_renewed_lasts(stage: Stage) -> None:
    """Whatever runs, and however long."""
    actor = await stage.join()
    other = await stage.join()
    await stage.submit()
    [grant] = await actor.take()
    await stage.pass_time(4 * stage.ttl)
    assert await other.take() == []
    await actor.finish(done(grant))


@clause
async def check_a_renewal_is_good_for_the_whole_lease(stage: Stage) -> None:
    """And a confirmation likewise: a member that misses a few renewals is not dead."""
    actor = await stage.join()
    await stage.join()
    await stage.pass_time(stage.ttl / 2)
    actor.alive = False
    await stage.pass_time(0.65 * stage.ttl)
    assert actor.renew().status is Status.OK
    await stage.pass_time(0.65 * stage.ttl)
    assert (await actor.confirm()).status is Status.OK
    await stage.pass_time(0.65 * stage.ttl)
    assert actor.renew().status is Status.OK


@clause
async def check_a_renewal_needs_no_claim_and_a_claim_renews_nothing(stage: Stage) -> None:
    """Claims do not extend a lease: only the keeper's renewal does (LEASE rule 9)."""
    actor = await stage.join()
    await stage.join()
    actor.alive = False
    for _ in range(40):
        await stage.pass_time(stage.ttl / 8)
        if (await actor.claim(1)).status is Status.LOST:
            return
    raise AssertionError("a member that only claims lives for ever")


@clause
async def check_a_lost_lease_is_not_renewed(stage: Stage) -> None:
    """LOST, and for good: its entries may be somebody else's by now."""
    actor = await stage.join()
    await stage.join()
    await stage.outlive(actor)
    for _ in range(2):
        assert actor.renew().status is Status.LOST
        assert (await actor.claim()).status is Status.LOST
    assert (await actor.confirm()).status is Status.LOST
    assert (await actor.mine()).status is Status.LOST


@clause
async def check_a_renewal_of_a_live_member_is_ok(stage: Stage) -> None:
    """It says so, and that nothing was cancelled."""
    actor = await stage.join()
    renewed = actor.renew()
    assert (renewed.status, renewed.cancels) == (Status.OK, [])


@clause
async def check_who_leaves_hands_back_at_once_and_uncounted(stage: Stage) -> None:
    """No lease must end for it, and it is no crash."""
    first = await stage.join()
    second = await stage.join({"a": policy(), "b": policy()})
    ids = await stage.submit(count=2)
    grants = [await first.take(1), await first.take(1)]
    assert all(grants)
    await first.leave()
    adopted = await second.take()
    assert [(job_id(grant), grant.crashes, grant.n) for grant in adopted] == [(ids[0], 0, 2), (ids[1], 0, 2)]
    assert first.renew().status is Status.LOST


@clause
async def check_leaving_twice_is_harmless(stage: Stage) -> None:
    """A lost reply is safe to resend; so is a goodbye of one who is long forgotten."""
    actor = await stage.join()
    other = await stage.join()
    await actor.leave()
    await actor.leave()
    await stage.submit()
    assert len(await other.take()) == 1


@clause
async def check_mine_hands_back_what_its_member_does_not_know(stage: Stage) -> None:
    """A claim whose reply was lost left entries with a member that never heard of them; the known ones stay (P1)."""
    actor = await stage.join()
    ids = await stage.submit(count=4)
    known = await actor.take(2)
    await actor.take(2)
    settled = await actor.mine(*known)
    assert settled.status is Status.OK
    adopted = await actor.take()
    assert [(job_id(grant), grant.n, grant.crashes) for grant in adopted] == [(ids[2], 2, 0), (ids[3], 2, 0)]
    await actor.finish(*map(done, [*known, *adopted]))


@clause
async def check_mine_frees_what_others_may_take(stage: Stage) -> None:
    """What it hands back is anybody's, also under a limit that it used up."""
    lanes = {"a": policy(2)}
    first, second = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=3)
    [kept, _] = await first.take()
    assert await second.take() == []
    await first.mine(kept)
    assert [grant.n for grant in await second.take()] == [2]


@clause
async def check_mine_knows_a_delivery_by_its_count(stage: Stage) -> None:
    """An entry that was handed back and granted again is another delivery: knowing the old one keeps nothing."""
    actor = await stage.join()
    await stage.submit()
    [old] = await actor.take()
    await actor.mine()
    [new] = await actor.take()
    await actor.mine(old)
    [newest] = await actor.take()
    assert (old.n, new.n, newest.n) == (1, 2, 3)


@clause
async def check_mine_of_an_older_session_does_nothing(stage: Stage) -> None:
    """It was sent over a connection that broke, with a list that is out of date."""
    actor = await stage.join()
    await stage.submit()
    old = actor.me
    await actor.mine()
    [grant] = await actor.take()
    assert (await stage.backend.stream.mine(old, [])).status is Status.STALE
    await actor.finish(done(grant))


@clause
async def check_mine_is_safe_to_send_twice(stage: Stage) -> None:
    """The same session may say again what it knows."""
    actor = await stage.join()
    await stage.submit()
    [grant] = await actor.take()
    await actor.mine(grant)
    assert (await stage.backend.stream.mine(actor.me, [grant])).status is Status.OK
    await actor.finish(done(grant))


@clause
async def check_a_new_life_hands_back_the_old_ones_jobs_uncounted(stage: Stage) -> None:
    """A worker that lost its lease and joins again names its old id: a partition is no crash (I8)."""
    old = await stage.join()
    await stage.join({"b": policy()})
    await stage.submit(count=2)
    await old.take()
    await stage.outlive(old)
    new = await stage.join(old=old)
    assert new.joined.kept == []
    assert [(grant.n, grant.crashes) for grant in await new.take()] == [(2, 0), (2, 0)]


@clause
async def check_a_new_life_keeps_the_jobs_that_still_run(stage: Stage) -> None:
    """``keep`` moves deliveries of unlimited lanes to the new member as they are; the old member's settle is void (1.4)."""
    old = await stage.join()
    other = await stage.join()
    await stage.submit(count=3)
    grants = [grant for _ in range(3) for grant in await old.take(1)]
    await stage.outlive(old)
    new = await stage.join(old=old, keep=grants[:2])
    assert sorted(new.joined.kept) == sorted(grant.fence for grant in grants[:2])
    assert [(g.entry, g.crashes) for g in await other.take()] == [(grants[2].entry, 0)]
    assert (await old.settle(done(grants[0]))).refused == [(grants[0], Refusal.FENCED)]
    await new.finish(done(grants[0]), done(grants[1]))


@clause
async def check_a_life_that_never_ended_can_be_succeeded(stage: Stage) -> None:
    """The old id may still be alive on the server: it is out from now on."""
    old = await stage.join()
    await stage.submit(count=2)
    [kept, _] = await old.take()
    new = await stage.join(old=old, keep=[kept])
    assert new.joined.kept == [kept.fence]
    assert old.renew().status is Status.LOST
    assert len(await new.take()) == 1
    await new.finish(done(kept))


@clause
async def check_what_runs_is_kept_whatever_its_lane_is_by_now(stage: Stage) -> None:
    """A lane may have got a limit since: its body still runs, so nobody else may be given it; it holds a token then."""
    old = await stage.join()
    await stage.submit(count=2)
    [grant] = await old.take(1)
    await stage.backend.fleet.set_limit("a", 1)
    new = await stage.join(old=old, keep=[grant])
    assert new.joined.kept == [grant.fence]
    assert await new.take() == []
    await new.finish(done(grant))
    assert len(await new.take()) == 1


@clause
async def check_nothing_is_kept_that_somebody_adopted(stage: Stage) -> None:
    """The same fence as everywhere: owner and count must still be those of the delivery."""
    old = await stage.join()
    other = await stage.join()
    await stage.submit()
    [grant] = await old.take()
    await stage.outlive(old)
    [adopted] = await other.take()
    new = await stage.join(old=old, keep=[grant])
    assert new.joined.kept == []
    assert await new.take() == []
    await other.finish(done(adopted))


@clause
async def check_an_old_life_that_nobody_remembers_is_no_obstacle(stage: Stage) -> None:
    """The server may have forgotten it entirely."""
    old = await stage.join()
    await old.leave()
    new = await stage.join(old=old)
    await stage.submit()
    assert len(await new.take()) == 1
