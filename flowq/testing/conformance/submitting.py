"""Jobs come in: once, all of them, and under the id that they keep."""

from __future__ import annotations

from flowq.testing.conformance.jobs import again, cancelled, dead, done, job_id, record, released
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_submit_returns_a_receipt_for_each_job_in_order(stage: Stage) -> None:
    """One receipt a job, in the batch's order; each says that its job was created."""
    actor = await stage.join()
    receipts = await stage.send(*(stage.submission(number=i) for i in range(5)))
    assert [receipt.created for receipt in receipts] == [True] * 5
    grants = await actor.take()
    assert [job_id(grant) for grant in grants] == [receipt.job_id for receipt in receipts]
    await actor.finish(*map(done, grants))


@clause
async def check_an_envelope_comes_back_as_it_went_in(stage: Stage) -> None:
    """The bytes of an envelope are not touched on the way, whatever is in it."""
    actor = await stage.join()
    job = stage.submission()
    job.envelope = (
        b'{"task":"a", "args":["\\u00e9", "\xc3\xa9", 1.50, 12345678901234567890], "new field":null }'
    )
    await stage.send(job)
    [grant] = await actor.take()
    assert grant.raw == job.envelope
    await actor.finish(done(grant))


@clause
async def check_what_is_no_json_is_delivered_as_it_is(stage: Stage) -> None:
    """A place does not judge envelopes: what cannot be read is delivered, so that its worker can bury it with a reason."""
    actor = await stage.join()
    job = stage.submission()
    job.envelope = b"\x00\xff no JSON | at all"
    [receipt] = await stage.send(job)
    [grant] = await actor.take()
    assert grant.raw == job.envelope
    assert receipt.job_id == f"{grant.lane}:{grant.entry}"
    await actor.leave()


@clause
async def check_an_empty_batch_is_nothing(stage: Stage) -> None:
    """No jobs, no receipts, nothing to claim."""
    actor = await stage.join()
    assert await stage.send() == []
    assert await actor.take() == []


@clause
async def check_a_batch_sent_twice_is_stored_once(stage: Stage) -> None:
    """The same batch id again stores nothing and returns the same receipts: a lost reply is safe to resend (P6)."""
    actor = await stage.join()
    batch = [
        stage.submission(number=1),
        stage.submission(number=2, delay=stage.ttl),
        stage.submission(number=3, key="k"),
        stage.submission(number=4),
    ]
    first = await stage.send(*batch, batch_id="one")
    second = await stage.send(*batch, batch_id="one")
    assert [(r.job_id, r.created) for r in second] == [(r.job_id, r.created) for r in first]
    assert len({receipt.job_id for receipt in first}) == 4
    assert len(await actor.take()) == 3
    await stage.pass_time(1.25 * stage.ttl)
    await stage.backend.timers.promote()
    assert len(await actor.take()) == 1


@clause
async def check_a_batch_sent_again_after_its_jobs_ended_is_not_stored(stage: Stage) -> None:
    """The marker of a batch outlives its jobs."""
    actor = await stage.join()
    batch = [stage.submission()]
    first = await stage.send(*batch, batch_id="one")
    await actor.finish(*map(done, await actor.take()))
    assert [r.job_id for r in await stage.send(*batch, batch_id="one")] == [r.job_id for r in first]
    assert await actor.take() == []


@clause
async def check_the_same_jobs_under_another_batch_id_are_other_jobs(stage: Stage) -> None:
    """Only the batch id says that a batch is a resend; equal content does not."""
    actor = await stage.join()
    one = await stage.send(stage.submission(), batch_id="one")
    two = await stage.send(stage.submission(), batch_id="two")
    assert one[0].job_id != two[0].job_id
    assert len(await actor.take()) == 2


@clause
async def check_a_batch_may_hold_jobs_of_several_lanes(stage: Stage) -> None:
    """Receipts stay in the batch's order, whatever lanes are mixed; an id begins with its lane."""
    lanes = ["a", "b", "b", "a", "c"]
    receipts = await stage.send(*(stage.submission(lane) for lane in lanes))
    assert [receipt.job_id.split(":")[0] for receipt in receipts] == lanes


@clause
async def check_a_large_batch_is_stored_whole_and_in_order(stage: Stage) -> None:
    """Five hundred jobs in one batch, the most that flowq sends at once."""
    actor = await stage.join()
    ids = await stage.submit(count=500)
    assert [job_id(grant) for grant in await actor.take()] == ids


@clause
async def check_a_key_names_one_job_until_it_ends(stage: Stage) -> None:
    """A second submit with a key that is taken stores nothing and names the first job."""
    actor = await stage.join()
    first = await stage.submit_one(key="k")
    [receipt] = await stage.send(stage.submission(number=2, key="k"))
    assert (receipt.job_id, receipt.created) == (first, False)
    [grant] = await actor.take()
    assert await stage.submit_one(key="k") == first, "it runs: it has not ended"
    await actor.finish(done(grant))
    assert await stage.submit_one(key="k") != first


@clause
async def check_a_key_holds_within_its_lane(stage: Stage) -> None:
    """The same key in another lane is another key, and another key is another job."""
    receipts = await stage.send(
        stage.submission("a", key="k"), stage.submission("b", key="k"), stage.submission("a", key="l")
    )
    assert [receipt.created for receipt in receipts] == [True] * 3


@clause
async def check_a_key_twice_in_one_batch_makes_one_job(stage: Stage) -> None:
    """The second one in the batch finds the key taken by the first."""
    actor = await stage.join()
    first, second = await stage.send(stage.submission(key="k"), stage.submission(key="k"))
    assert (first.created, second.created) == (True, False)
    assert first.job_id == second.job_id
    assert len(await actor.take()) == 1


@clause
async def check_a_key_is_freed_by_every_end_of_its_job(stage: Stage) -> None:
    """Dead, cancelled while it ran, cancelled before it started: each frees the key."""
    actor = await stage.join()
    first = await stage.submit_one(key="k")
    await actor.finish(*map(dead, await actor.take()))
    second = await stage.submit_one(key="k")
    await actor.finish(*map(cancelled, await actor.take()))
    third = await stage.submit_one(key="k")
    await stage.backend.results.cancel(third, "", record(status="cancelled"), 1000)
    fourth = await stage.submit_one(key="k", delay=10 * stage.ttl)
    await stage.backend.results.cancel(fourth, "", record(status="cancelled"), 1000)
    fifth = await stage.submit_one(key="k")
    assert len({first, second, third, fourth, fifth}) == 5


@clause
async def check_a_key_is_kept_by_a_retry_and_by_a_hand_back(stage: Stage) -> None:
    """A job that will run again has not ended."""
    actor = await stage.join()
    first = await stage.submit_one(key="k")
    await actor.finish(*map(released, await actor.take()))
    assert await stage.submit_one(key="k") == first
    [grant] = await actor.take()
    await actor.finish(again(grant, delay=10 * stage.ttl))
    assert await stage.submit_one(key="k") == first
