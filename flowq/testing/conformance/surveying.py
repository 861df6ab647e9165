"""The look at the app as a whole that a worker's housekeeping takes."""

from __future__ import annotations

from flowq._fleet import LaneSurvey, Survey
from flowq.testing.conformance.jobs import dead, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


def lane_of(survey: Survey, name: str) -> LaneSurvey:
    return next(lane for lane in survey.lanes if lane.lane == name)


@clause
async def check_one_member_speaks_for_all(stage: Stage) -> None:
    """Exactly one of the live ones; when it has left, another one does. Only it is told of the lanes."""
    actors = [await stage.join() for _ in range(3)]
    surveys = [await stage.backend.fleet.survey(actor.me) for actor in actors]
    [speaker] = [actor for actor, survey in zip(actors, surveys, strict=True) if survey.speaks]
    assert [bool(survey.lanes) for survey in surveys] == [survey.speaks for survey in surveys]
    await speaker.leave()
    rest = [actor for actor in actors if actor is not speaker]
    assert sum([(await stage.backend.fleet.survey(actor.me)).speaks for actor in rest]) == 1
    assert not (await stage.backend.fleet.survey(speaker.me)).speaks


@clause
async def check_the_dead_do_not_speak(stage: Stage) -> None:
    """A member whose lease has ended leaves the word to the next one."""
    one, other = await stage.join(), await stage.join()
    first, second = (one, other) if (await stage.backend.fleet.survey(one.me)).speaks else (other, one)
    await stage.outlive(first)
    assert (await stage.backend.fleet.survey(second.me)).speaks


@clause
async def check_a_lane_that_nobody_serves_is_seen(stage: Stage) -> None:
    """With the number of its jobs and the age of the oldest; a lane that is served is told apart."""
    actor = await stage.join()
    await stage.submit("lonely", 2)
    await stage.submit("a")
    await stage.pass_time(stage.ttl / 4)
    survey = await stage.backend.fleet.survey(actor.me)
    lonely = lane_of(survey, "lonely")
    assert (lonely.served, lonely.waiting, lonely.declared) == (False, 2, ())
    assert lonely.oldest is not None
    assert stage.ttl / 8 < lonely.oldest < 100 * stage.ttl
    served = lane_of(survey, "a")
    assert (served.served, served.waiting, served.oldest) == (True, 1, None)


@clause
async def check_what_live_members_declare_is_seen(stage: Stage) -> None:
    """Each limit once, the least first, no limit last."""
    actors = [await stage.join({"a": policy(limit)}) for limit in (5, 3, None, 3)]
    surveys = [await stage.backend.fleet.survey(actor.me) for actor in actors]
    [survey] = [survey for survey in surveys if survey.speaks]
    assert lane_of(survey, "a").declared == (3, 5, None)
    assert survey.limits == {"a": 3}


@clause
async def check_limits_are_seen_by_everybody(stage: Stage) -> None:
    """What is in force, what an operator has set, and what is paused; whether one speaks or not."""
    one, other = await stage.join({"a": policy(2), "b": policy()}), await stage.join()
    await stage.backend.fleet.set_limit("b", 7)
    await stage.backend.fleet.pause("a", True)
    for actor in (one, other):
        survey = await stage.backend.fleet.survey(actor.me)
        assert survey.limits == {"a": 0, "b": 7}
        assert survey.override == {"b": 7}
        assert survey.paused == {"a"}


@clause
async def check_dead_letters_are_counted(stage: Stage) -> None:
    """All of the app's."""
    actor = await stage.join()
    await stage.submit(count=3)
    await actor.finish(*map(dead, (await actor.take())[:2]))
    assert (await stage.backend.fleet.survey(actor.me)).letters == 2


@clause
async def check_the_servers_clock_is_told(stage: Stage) -> None:
    """In Unix seconds."""
    actor = await stage.join()
    now = (await stage.backend.fleet.survey(actor.me)).time
    assert now is not None
    assert abs(now - await stage.harness.server_ms() / 1000) < 5
