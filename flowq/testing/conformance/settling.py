"""What became of a job is written once, by the owner of that very delivery."""

from __future__ import annotations

import msgspec

from flowq._model import JobStatus, Refusal, Status
from flowq.testing.conformance.jobs import (
    again,
    cancelled,
    dead,
    done,
    job_id,
    policy,
    released,
    succeeded,
)
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_a_settled_job_is_gone(stage: Stage) -> None:
    """It is delivered to nobody again, not even after its member died."""
    actor = await stage.join()
    other = await stage.join()
    job = await stage.submit_one()
    await actor.finish(*map(done, await actor.take()))
    assert await stage.backend.results.status(job) is JobStatus.UNKNOWN
    await stage.outlive(actor)
    assert await other.take() == []


@clause
async def check_a_settle_sent_twice_is_harmless(stage: Stage) -> None:
    """The second one finds the entry GONE and changes nothing: a lost reply is safe to resend."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    await actor.finish(succeeded(grant, "first"))
    settled = await actor.settle(succeeded(grant, "second"))
    assert settled.status is Status.OK
    assert settled.refused == [(grant, Refusal.GONE)]
    kept = await stage.backend.results.wait(job, 0)
    assert kept is not None
    assert msgspec.json.decode(kept.value) == "first"


@clause
async def check_a_resent_retry_makes_no_second_copy(stage: Stage) -> None:
    """Retry and ack are one step: sent twice, the job comes back once."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    retry = again(grant, delay=stage.ttl / 4)
    await actor.finish(retry)
    assert (await actor.settle(retry)).refused == [(grant, Refusal.GONE)]
    await stage.pass_time(stage.ttl / 2)
    await stage.backend.timers.promote()
    assert [job_id(grant) for grant in await actor.take()] == [job]
    assert (await actor.settle(retry)).refused == [(grant, Refusal.GONE)]


@clause
async def check_a_resent_hand_back_does_not_take_the_job_from_its_next_owner(stage: Stage) -> None:
    """The delivery count tells one delivery of an entry from the next, even to the same member (W6)."""
    actor = await stage.join()
    await stage.submit()
    [old] = await actor.take()
    await actor.finish(released(old))
    [new] = await actor.take()
    assert new.entry == old.entry
    assert new.n > old.n
    assert (await actor.settle(released(old))).refused == [(old, Refusal.FENCED)]
    assert (await actor.settle(done(old))).refused == [(old, Refusal.FENCED)]
    await actor.finish(done(new))


@clause
async def check_who_lost_a_delivery_writes_nothing(stage: Stage) -> None:
    """After an adoption the former owner is FENCED: no result, no ack, no dead letter of it counts (P4)."""
    first = await stage.join()
    second = await stage.join()
    job = await stage.submit_one()
    [stale] = await first.take()
    await stage.outlive(first)
    [fresh] = await second.take()
    for outcome in (succeeded(stale), dead(stale), again(stale, delay=0), cancelled(stale), released(stale)):
        assert (await first.settle(outcome)).refused == [(stale, Refusal.FENCED)]
    assert await stage.backend.results.status(job) is JobStatus.RUNNING
    await second.finish(succeeded(fresh, "mine"))
    kept = await stage.backend.results.wait(job, 0)
    assert kept is not None
    assert msgspec.json.decode(kept.value) == "mine"


@clause
async def check_another_member_cannot_settle_a_delivery(stage: Stage) -> None:
    """The owner's name is part of the fence."""
    owner = await stage.join()
    thief = await stage.join()
    await stage.submit()
    [grant] = await owner.take()
    assert (await thief.settle(done(grant))).refused == [(grant, Refusal.FENCED)]
    await owner.finish(done(grant))


@clause
async def check_each_outcome_is_judged_on_its_own(stage: Stage) -> None:
    """One that is refused does not stop its neighbours, whatever their kind; the reply names the very deliveries."""
    actor = await stage.join()
    ids = await stage.submit(count=8)
    grants = await actor.take()
    await actor.finish(done(grants[1]), done(grants[6]))
    settled = await actor.settle(
        succeeded(grants[0]),
        done(grants[1]),
        dead(grants[2]),
        released(grants[3]),
        again(grants[4], delay=10 * stage.ttl),
        cancelled(grants[5]),
        dead(grants[6]),
        done(grants[7]),
    )
    assert sorted((d.entry, why) for d, why in settled.refused) == [
        (grants[1].entry, Refusal.GONE),
        (grants[6].entry, Refusal.GONE),
    ]
    status = [await stage.backend.results.status(job) for job in ids]
    assert status == [
        JobStatus.SUCCEEDED,
        JobStatus.UNKNOWN,
        JobStatus.DEAD,
        JobStatus.READY,
        JobStatus.DELAYED,
        JobStatus.CANCELLED,
        JobStatus.UNKNOWN,
        JobStatus.UNKNOWN,
    ]


@clause
async def check_many_outcomes_at_once(stage: Stage) -> None:
    """Five hundred outcomes of two lanes in one exchange, the most that a worker sends."""
    actor = await stage.join({"a": policy(), "b": policy()})
    await stage.submit("a", 250)
    await stage.submit("b", 250)
    grants = await actor.take()
    assert len(grants) == 500
    await actor.finish(*(done(grant) if i % 3 else succeeded(grant, i) for i, grant in enumerate(grants)))
    assert await actor.take() == []


@clause
async def check_a_hand_back_is_to_be_had_at_once_and_is_no_crash(stage: Stage) -> None:
    """Released: anybody may take it now, with n one more and its crashes as they were."""
    first = await stage.join()
    second = await stage.join()
    await stage.submit()
    [grant] = await first.take()
    await first.finish(released(grant))
    [adopted] = await second.take()
    assert (adopted.entry, adopted.n, adopted.crashes) == (grant.entry, 2, 0)
    assert adopted.raw == grant.raw


@clause
async def check_what_was_handed_back_starts_before_what_is_new(stage: Stage) -> None:
    """Oldest first, whatever the order of the hand-back."""
    actor = await stage.join()
    ids = await stage.submit(count=6)
    grants = await actor.take(4)
    await actor.finish(released(grants[2]), released(grants[0]))
    await actor.finish(released(grants[1]))
    assert [job_id(grant) for grant in await actor.take()] == [ids[0], ids[1], ids[2], ids[4], ids[5]]


@clause
async def check_a_hand_back_keeps_its_token(stage: Stage) -> None:
    """It stays in flight until somebody adopts it: the limit is never exceeded by what waits in between."""
    actor = await stage.join({"a": policy(2)})
    await stage.submit(count=5)
    grants = await actor.take()
    await actor.finish(*map(released, grants))
    assert [g.entry for g in await actor.take()] == [g.entry for g in grants]


@clause
async def check_a_retry_holds_no_token(stage: Stage) -> None:
    """A job that waits for its next attempt does not count against its limit."""
    actor = await stage.join({"a": policy(1)})
    await stage.submit(count=2)
    [grant] = await actor.take()
    await actor.finish(again(grant, delay=10 * stage.ttl))
    assert len(await actor.take()) == 1


@clause
async def check_a_dead_letter_starts_no_more(stage: Stage) -> None:
    """It has ended: its record says why, and its token is free."""
    actor = await stage.join({"a": policy(1)})
    ids = await stage.submit(count=2)
    [grant] = await actor.take()
    await actor.finish(dead(grant, "too bad"))
    kept = await stage.backend.results.wait(ids[0], 0)
    assert kept is not None
    assert (kept.status, kept.kind, kept.message) == ("dead", "error", "too bad")
    assert [job_id(grant) for grant in await actor.take()] == [ids[1]]


@clause
async def check_an_outcome_counts_until_somebody_takes_the_job_over(stage: Stage) -> None:
    """Ownership decides, not the lease: a member whose lease ended still owns what nobody adopted."""
    first = await stage.join()
    second = await stage.join()
    job = await stage.submit_one()
    [grant] = await first.take()
    await stage.outlive(first)
    await first.finish(succeeded(grant))
    assert await stage.backend.results.status(job) is JobStatus.SUCCEEDED
    assert await second.take() == []


@clause
async def check_an_outcome_of_another_epoch_waits(stage: Stage) -> None:
    """It is neither taken nor refused: EPOCH says confirm first, then send it again."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    epoch, actor.epoch = actor.epoch, "another"
    assert (await actor.settle(succeeded(grant))).status is Status.EPOCH
    assert await stage.backend.results.status(job) is JobStatus.RUNNING
    actor.epoch = epoch
    await actor.finish(succeeded(grant))


@clause
async def check_the_outcomes_of_a_refused_claim_count(stage: Stage) -> None:
    """In one exchange, settle and claim are judged apart: a stale session claims nothing, but what it did is done."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    await actor.mine(grant)
    actor.session -= 1
    assert await actor.turn([succeeded(grant)]) == []
    assert await stage.backend.results.status(job) is JobStatus.SUCCEEDED
