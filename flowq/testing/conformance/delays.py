"""Jobs that are due later."""

from __future__ import annotations

from flowq.testing.conformance.actor import Actor
from flowq.testing.conformance.jobs import again, done, job_id
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


async def due(stage: Stage, actor: Actor) -> list[str]:
    """The ids of the jobs that can be had now, after what is due was moved."""
    await stage.backend.timers.promote()
    return [job_id(grant) for grant in await actor.take()]


@clause
async def check_a_delayed_job_starts_when_it_is_due_and_not_before(stage: Stage) -> None:
    """``delay_ms`` counts from the submit."""
    actor = await stage.join()
    job = await stage.submit_one(delay=2 * stage.ttl)
    await stage.pass_time(stage.ttl)
    assert await due(stage, actor) == []
    await stage.pass_time(1.25 * stage.ttl)
    assert await due(stage, actor) == [job]


@clause
async def check_a_job_for_a_moment_starts_then_and_not_before(stage: Stage) -> None:
    """``at_ms`` is a moment of the server's own clock."""
    actor = await stage.join()
    job = await stage.submit_one(at_ms=await stage.harness.server_ms() + round(2000 * stage.ttl))
    await stage.pass_time(stage.ttl)
    assert await due(stage, actor) == []
    await stage.pass_time(1.25 * stage.ttl)
    assert await due(stage, actor) == [job]


@clause
async def check_a_job_for_a_moment_that_has_passed_is_ready(stage: Stage) -> None:
    """``at_ms`` in the past is no delay at all."""
    actor = await stage.join()
    job = await stage.submit_one(at_ms=await stage.harness.server_ms() - 1000)
    assert [job_id(grant) for grant in await actor.take()] == [job]


@clause
async def check_the_envelope_of_a_delayed_job_carries_its_id(stage: Stage) -> None:
    """A job that is delivered under another entry is known by the id of its receipt; the rest of its envelope is untouched."""
    actor = await stage.join()
    job = stage.submission(delay=stage.ttl)
    job.envelope = b'{"task":"a", "new":[1.50, {"x":"}"}]}'
    [receipt] = await stage.send(job)
    await stage.pass_time(1.25 * stage.ttl)
    await stage.backend.timers.promote()
    [grant] = await actor.take()
    assert job_id(grant) == receipt.job_id
    assert grant.raw.endswith(b'"task":"a", "new":[1.50, {"x":"}"}]}')
    await actor.finish(done(grant))


@clause
async def check_jobs_start_in_the_order_in_which_they_are_due(stage: Stage) -> None:
    """Not in the order in which they were submitted."""
    actor = await stage.join()
    late = await stage.submit_one(delay=1.5 * stage.ttl)
    early = await stage.submit_one(delay=0.5 * stage.ttl)
    await stage.pass_time(2 * stage.ttl)
    assert await due(stage, actor) == [early, late]


@clause
async def check_promote_says_when_the_next_is_due(stage: Stage) -> None:
    """Seconds until the earliest delayed job is due; None if there is none."""
    timers = stage.backend.timers
    await stage.join()
    assert await timers.promote() is None
    await stage.submit(delay=4 * stage.ttl)
    await stage.submit(delay=2 * stage.ttl)
    first = await timers.promote()
    assert first is not None
    assert 0 < first <= 2 * stage.ttl
    await stage.pass_time(2.25 * stage.ttl)
    second = await timers.promote()
    assert second is not None
    assert 0 < second <= 2 * stage.ttl
    await stage.pass_time(2.25 * stage.ttl)
    assert await timers.promote() is None


@clause
async def check_a_claim_says_when_the_next_is_due(stage: Stage) -> None:
    """So that a worker knows how long it may sleep."""
    actor = await stage.join()
    assert (await actor.claim()).next_due is None
    await stage.submit(delay=2 * stage.ttl)
    due_in = (await actor.claim()).next_due
    assert due_in is not None
    assert 0 < due_in <= 2 * stage.ttl


@clause
async def check_a_job_is_promoted_once(stage: Stage) -> None:
    """Several workers promote at will; a job comes into its stream once."""
    actor = await stage.join()
    other = await stage.harness.another()
    job = await stage.submit_one(delay=stage.ttl)
    await stage.pass_time(1.25 * stage.ttl)
    await stage.backend.timers.promote()
    await other.timers.promote()
    await stage.backend.timers.promote()
    assert [job_id(grant) for grant in await actor.take()] == [job]


@clause
async def check_a_retry_waits_for_its_delay_and_keeps_its_id(stage: Stage) -> None:
    """A job that runs again is the same job, with the envelope that its worker wrote."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    retry = again(grant, delay=stage.ttl)
    await actor.finish(retry)
    await stage.pass_time(stage.ttl / 2)
    assert await due(stage, actor) == []
    await stage.pass_time(0.75 * stage.ttl)
    await stage.backend.timers.promote()
    [grant] = await actor.take()
    assert job_id(grant) == job
    assert b'"attempt":2' in grant.raw
    await actor.finish(again(grant, delay=stage.ttl / 2, attempt=3))
    await stage.pass_time(0.75 * stage.ttl)
    assert await due(stage, actor) == [job], "the second retry, too"


@clause
async def check_a_retry_without_delay_is_ready_at_once(stage: Stage) -> None:
    """Zero is a delay like any other."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    await actor.finish(again(grant, delay=0))
    assert await due(stage, actor) == [job]
