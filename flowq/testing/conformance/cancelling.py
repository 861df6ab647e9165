"""A job that is not wanted any more: before it starts, while it runs, and after."""

from __future__ import annotations

from flowq._model import CancelAnswer, JobStatus
from flowq.testing.conformance.jobs import again, cancelled, done, policy, record, released, succeeded
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_a_job_that_has_not_started_is_cancelled_for_good(stage: Stage) -> None:
    """Delayed, ready, handed back, waiting for a retry: REMOVED, with the record given, and it never starts."""
    actor = await stage.join()
    back, retried = await stage.submit(count=2)
    first, second = await actor.take()
    await actor.finish(released(first), again(second, delay=stage.ttl / 4))
    ready = await stage.submit_one()
    delayed = await stage.submit_one(delay=stage.ttl / 4)
    for job in (back, retried, ready, delayed):
        assert await stage.cancel(job, f"no {job}") is CancelAnswer.REMOVED
        assert await stage.backend.results.status(job) is JobStatus.CANCELLED
        assert (await stage.kept(job)).reason == f"no {job}"
    await stage.pass_time(stage.ttl / 2)
    await stage.backend.timers.promote()
    assert await actor.take() == []


@clause
async def check_cancelling_one_job_leaves_its_neighbours(stage: Stage) -> None:
    """In the middle of a backlog, under a limit that is used up."""
    actor = await stage.join({"a": policy(1)})
    ids = await stage.submit(count=4)
    [running] = await actor.take()
    assert await stage.cancel(ids[2]) is CancelAnswer.REMOVED
    [second] = await actor.turn([done(running)])
    [fourth] = await actor.turn([done(second)])
    assert f"{fourth.lane}:{fourth.entry}" == ids[3]
    assert await actor.turn([done(fourth)]) == []


@clause
async def check_a_running_job_is_asked_to_stop(stage: Stage) -> None:
    """REQUESTED: its worker learns it by any member's renewal, by ``cancels``, and by a hint to look now."""
    actor = await stage.join()
    other = await stage.harness.another()
    hints: list[bool] = []
    actor.backend.fleet.on_control(lambda: hints.append(True))
    await stage.pass_time(stage.ttl / 4)
    job = await stage.submit_one()
    [grant] = await actor.take()
    answer = await other.results.cancel(job, "enough", record(status="cancelled", reason="enough"), 60_000)
    assert answer is CancelAnswer.REQUESTED
    assert await stage.backend.results.status(job) is JobStatus.CANCELLING
    assert actor.renew().cancels == [(grant.lane, grant.entry, "enough")]
    assert await stage.backend.fleet.cancels() == [(grant.lane, grant.entry, "enough")]
    await stage.pass_time(stage.ttl / 4)
    assert hints
    await actor.finish(cancelled(grant, "enough"))
    assert await stage.backend.results.status(job) is JobStatus.CANCELLED
    assert await stage.backend.fleet.cancels() == []
    assert actor.renew().cancels == []


@clause
async def check_a_changed_limit_is_a_hint_to_look(stage: Stage) -> None:
    """``on_control`` calls back for limits and pauses, too, over every client."""
    other = await stage.harness.another()
    await stage.join()
    hints: list[bool] = []
    other.fleet.on_control(lambda: hints.append(True))
    await stage.pass_time(stage.ttl / 4)
    for change in (stage.backend.fleet.set_limit("a", 3), stage.backend.fleet.pause("a", True)):
        hints.clear()
        await change
        await stage.pass_time(stage.ttl / 4)
        assert hints


@clause
async def check_who_returned_has_succeeded_however_late_the_cancel(stage: Stage) -> None:
    """The outcome decides, not the request; nothing of it is left behind (2.5)."""
    actor = await stage.join()
    job = await stage.submit_one()
    [grant] = await actor.take()
    await stage.cancel(job)
    await actor.finish(succeeded(grant))
    assert await stage.backend.results.status(job) is JobStatus.SUCCEEDED
    assert await stage.backend.fleet.cancels() == []
    assert await stage.cancel(job) is CancelAnswer.ALREADY_DONE


@clause
async def check_a_cancel_may_be_asked_twice(stage: Stage) -> None:
    """A lost reply is safe to resend, before and after the end."""
    actor = await stage.join()
    ready, running = await stage.submit(count=2)
    await stage.cancel(ready)
    assert await stage.cancel(ready) is CancelAnswer.ALREADY_DONE
    [grant] = await actor.take()
    assert await stage.cancel(running) is CancelAnswer.REQUESTED
    assert await stage.cancel(running) is CancelAnswer.REQUESTED
    assert len(await stage.backend.fleet.cancels()) == 1
    await actor.finish(cancelled(grant))


@clause
async def check_a_cancel_outlives_a_retry(stage: Stage) -> None:
    """A body that failed while it was asked to stop is not run again: the job is cancelled."""
    actor = await stage.join()
    one, two = await stage.submit(count=2)
    grants = await actor.take()
    await stage.cancel(one, "stop")
    await stage.cancel(two, "stop")
    await actor.finish(again(grants[0], delay=stage.ttl / 4), again(grants[1], delay=0))
    await stage.pass_time(stage.ttl / 2)
    await stage.backend.timers.promote()
    assert await actor.take() == []
    for job in (one, two):
        assert (await stage.kept(job)).status == "cancelled"
        assert (await stage.kept(job)).reason == "stop"
    assert await stage.backend.fleet.cancels() == []


@clause
async def check_a_cancel_outlives_a_hand_back_and_a_crash(stage: Stage) -> None:
    """Whoever would get the job next does not start it: it ends cancelled, and its waiter learns it."""
    actor, heir = await stage.join(), await stage.join()
    one, two = await stage.submit(count=2)
    [first] = await actor.take(1)
    await actor.take(1)
    await stage.cancel(one, "stop")
    await stage.cancel(two, "stop")
    await actor.finish(released(first))
    await stage.outlive(actor)
    assert await heir.take() == []
    for job in (one, two):
        assert (await stage.kept(job)).status == "cancelled"
        assert (await stage.kept(job)).reason == "stop"
    assert await stage.backend.fleet.cancels() == []
