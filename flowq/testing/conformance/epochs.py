"""A server that forgot: confirm what it still shows, and start nothing limited until every lease of before has ended."""

from __future__ import annotations

from flowq._model import JobStatus, Status
from flowq.testing.conformance.jobs import done, job_id, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_a_server_that_forgot_says_epoch_to_everybody(stage: Stage) -> None:
    """Renewal, claim and settle of a member that has not confirmed: EPOCH, and nothing happens."""
    actor = await stage.join()
    job = await stage.submit_one()
    await stage.submit()
    [grant] = await actor.take(1)
    await stage.harness.forget(keep_jobs=True)
    assert actor.renew().status is Status.EPOCH
    claimed = await actor.claim()
    assert (claimed.status, claimed.grants) == (Status.EPOCH, [])
    assert (await actor.settle(done(grant))).status is Status.EPOCH
    assert await stage.backend.results.status(job) is JobStatus.RUNNING


@clause
async def check_confirming_names_what_the_server_still_shows(stage: Stage) -> None:
    """And the new epoch, in which the member goes on: it may settle what was confirmed."""
    actor = await stage.join()
    await stage.submit(count=3)
    grants = await actor.take()
    await actor.finish(done(grants[1]))
    await stage.harness.forget(keep_jobs=True)
    assert actor.renew().status is Status.EPOCH
    before = actor.epoch
    confirmed = await actor.confirm(*grants)
    assert confirmed.status is Status.OK
    assert confirmed.epoch != before
    assert sorted(confirmed.fences) == sorted([grants[0].fence, grants[2].fence])
    assert actor.renew().status is Status.OK
    await actor.finish(done(grants[0]), done(grants[2]))


@clause
async def check_only_the_very_delivery_is_confirmed(stage: Stage) -> None:
    """Not one of another member, nor an earlier one of the same entry."""
    first, second = await stage.join(), await stage.join()
    await stage.submit(count=2)
    [theirs] = await first.take(1)
    [old] = await second.take(1)
    await second.mine()
    [new] = await second.take(1)
    assert new.entry == old.entry
    await stage.harness.forget(keep_jobs=True)
    second.renew()
    assert (await second.confirm(theirs, old)).fences == []
    assert (await second.confirm(new)).fences == [new.fence]


@clause
async def check_confirming_without_a_change_is_harmless(stage: Stage) -> None:
    """After each reconnect a member confirms; mostly the server forgot nothing."""
    actor = await stage.join()
    await stage.submit()
    [grant] = await actor.take()
    before = actor.epoch
    confirmed = await actor.confirm(grant)
    assert (confirmed.status, confirmed.epoch, confirmed.fences) == (Status.OK, before, [grant.fence])
    await actor.finish(done(grant))


@clause
async def check_every_forgetting_begins_another_epoch(stage: Stage) -> None:
    """Never one that was there before (I11)."""
    actor = await stage.join()
    epochs = {actor.epoch}
    for _ in range(3):
        await stage.harness.forget(keep_jobs=True)
        actor.renew()
        await actor.confirm()
        epochs.add(actor.epoch)
    assert len(epochs) == 4


@clause
async def check_limited_lanes_start_nothing_in_quarantine(stage: Stage) -> None:
    """For one TTL after the server forgot; unlimited lanes go on. The claim says how long it lasts."""
    actor = await stage.join({"a": policy(2), "b": policy()})
    await stage.submit("a", 2)
    await stage.submit("b", 1)
    await stage.harness.forget(keep_jobs=True)
    actor.renew()
    await actor.confirm()
    claimed = await actor.claim()
    assert [grant.lane for grant in claimed.grants] == ["b"]
    assert 0 < claimed.quarantine <= stage.ttl
    await stage.pass_time(stage.ttl / 2)
    assert await actor.take() == []
    await stage.outwait_quarantine(actor)
    assert len(await actor.take()) == 2


@clause
async def check_nothing_limited_is_adopted_in_quarantine(stage: Stage) -> None:
    """What looks dead on this server may live: its owner may have renewed with the one before (W3)."""
    lanes = {"a": policy(2), "b": policy()}
    victim, heir = await stage.join(lanes), await stage.join(lanes)
    await stage.submit("a", 1)
    await stage.submit("b", 1)
    assert len(await victim.take()) == 2
    await stage.outlive(victim)
    await stage.harness.forget(keep_jobs=True)
    heir.renew()
    await heir.confirm()
    assert [grant.lane for grant in await heir.take()] == ["b"]
    await stage.outwait_quarantine(heir)
    assert [grant.lane for grant in await heir.take()] == ["a"]


@clause
async def check_a_newcomer_is_in_the_quarantine_too(stage: Stage) -> None:
    """It concerns the lanes, not the members who were there: a join says how long it lasts (W9)."""
    lanes = {"a": policy(2)}
    actor = await stage.join(lanes)
    await stage.submit(count=2)
    await stage.harness.forget(keep_jobs=True)
    actor.renew()
    newcomer = await stage.join_now(lanes)
    assert 0 < newcomer.joined.quarantine <= stage.ttl
    assert newcomer.epoch != actor.epoch
    assert await newcomer.take() == []
    await stage.outwait_quarantine(newcomer)
    assert len(await newcomer.take()) == 2


@clause
async def check_what_was_confirmed_settles_in_quarantine(stage: Stage) -> None:
    """The quarantine is about starting: what runs goes on and ends."""
    actor = await stage.join({"a": policy(1)})
    await stage.submit(count=2)
    [grant] = await actor.take()
    await stage.harness.forget(keep_jobs=True)
    actor.renew()
    await actor.confirm(grant)
    assert await actor.turn([done(grant)]) == []
    await stage.outwait_quarantine(actor)
    assert len(await actor.take()) == 1


@clause
async def check_what_was_not_confirmed_is_handed_back_by_mine(stage: Stage) -> None:
    """After confirming, ``mine`` with what was confirmed: the rest is anybody's, uncounted."""
    actor = await stage.join()
    await stage.submit(count=2)
    [known, _] = await actor.take()
    await stage.harness.forget(keep_jobs=True)
    actor.renew()
    await actor.confirm(known)
    await actor.mine(known)
    assert [(grant.n, grant.crashes) for grant in await actor.take()] == [(2, 0)]


@clause
async def check_after_a_flush_everybody_is_lost(stage: Stage) -> None:
    """Members, jobs, records: gone. Who joins anew works on, limited lanes after a quarantine."""
    lanes = {"a": policy(1)}
    actor = await stage.join(lanes)
    job = await stage.submit_one()
    [grant] = await actor.take()
    await stage.harness.forget(keep_jobs=False)
    actor.alive = False
    assert actor.renew().status is Status.LOST
    assert (await actor.confirm(grant)).status is Status.LOST
    assert (await actor.claim()).status is Status.LOST
    assert await stage.backend.results.status(job) is JobStatus.UNKNOWN
    new = await stage.join_now(lanes, old=actor, keep=[grant])
    assert new.joined.kept == []
    assert new.joined.quarantine > 0
    later = await stage.submit_one()
    assert await new.take() == []
    await stage.outwait_quarantine(new)
    assert [job_id(grant) for grant in await new.take()] == [later]
