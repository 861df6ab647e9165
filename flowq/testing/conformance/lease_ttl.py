"""The lease TTL of a running fleet: announced, open when all heed it, complete when all were started with it."""

from __future__ import annotations

from flowq._errors import ConfigurationError
from flowq._fleet import ttl_change
from flowq._model import Status
from flowq.backends.protocol import TtlNotYet
from flowq.testing.conformance.actor import Actor
from flowq.testing.conformance.jobs import policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks

A = {"a": policy()}
LIMITED = {"a": policy(2)}


async def refused(stage: Stage, ttl: float, old: Actor | None = None) -> ConfigurationError:
    """The error of a join with this TTL, which must fail."""
    try:
        await stage.join_now(A, ttl=ttl, old=old)
    except ConfigurationError as error:
        return error
    raise AssertionError(f"a worker with a lease TTL of {ttl} s was accepted")


async def changed(stage: Stage, ttl: float) -> str:
    """How far a change to ``ttl`` is, in a word, asked by the command that begins it."""
    state = await stage.backend.fleet.change_ttl(ttl)
    assert state.to == round(ttl, 3)
    return ("open" if state.is_open else "announced") if state.under_way else "complete"


async def left(actor: Actor) -> float:
    """Seconds until the first lease of another member ends."""
    expiry = (await actor.claim(0)).next_expiry
    assert expiry is not None
    return expiry


@clause
async def check_another_lease_ttl_is_refused(stage: Stage) -> None:
    """Leases of one fleet have one length: a join with another, while members live, is refused; the error says what to do."""
    await stage.join()
    error = await refused(stage, 2 * stage.ttl)
    assert not isinstance(error, TtlNotYet)
    for part in (
        f"lease_ttl={stage.ttl:g} s",
        f"{2 * stage.ttl:g} s",
        f"flowq limits --lease-ttl {2 * stage.ttl:g}",
    ):
        assert part in str(error), error


@clause
async def check_a_changed_ttl_is_open_when_all_heed_it(stage: Stage) -> None:
    """Workers with the new value wait until every live member has told that it heeds it; a third value is refused."""
    first, second = await stage.join(), await stage.join()
    assert await changed(stage, 2 * stage.ttl) == "announced"
    assert ttl_change(first.renew().change) == (stage.ttl, 2 * stage.ttl)
    first.heed()
    assert await changed(stage, 2 * stage.ttl) == "announced"
    assert isinstance(await refused(stage, 2 * stage.ttl), TtlNotYet)
    assert not isinstance(await refused(stage, 3 * stage.ttl), TtlNotYet)
    second.heed()
    assert await changed(stage, 2 * stage.ttl) == "open"
    newcomer = await stage.join_now(A, ttl=2 * stage.ttl)
    assert newcomer.joined.change
    assert (await stage.join_now(A, ttl=stage.ttl)).joined.change == newcomer.joined.change


@clause
async def check_a_changed_ttl_is_complete_when_all_have_it(stage: Stage) -> None:
    """When the last live member with the old value has left: from then on the old value is another one.

    But a longer one no sooner than it is long: a member that was not told has been silent for as long by then.
    """
    old = await stage.join()
    assert await changed(stage, 2 * stage.ttl) == "announced"
    old.heed()
    new = await stage.join_now(A, ttl=2 * stage.ttl)
    new.heed()
    assert await changed(stage, 2 * stage.ttl) == "open"
    await old.leave()
    assert new.renew().change
    assert await changed(stage, 2 * stage.ttl) == "open"
    await stage.pass_time(2 * stage.ttl)
    assert new.renew().change == ""
    assert await changed(stage, 2 * stage.ttl) == "complete"
    await refused(stage, stage.ttl)


@clause
async def check_who_expires_holds_no_change_up(stage: Stage) -> None:
    """Of members only the living are asked."""
    heir, victim = await stage.join(), await stage.join()
    await changed(stage, 2 * stage.ttl)
    heir.heed()
    await stage.outlive(victim)
    assert await changed(stage, 2 * stage.ttl) == "open"


@clause
async def check_a_longer_ttl_holds_on_the_server_at_once(stage: Stage) -> None:
    """Also for the leases that run when it is announced: an entry is not adopted before the longer one is over."""
    victim, heir = await stage.join(), await stage.join()
    await stage.submit()
    assert len(await victim.take()) == 1
    assert (await left(heir)) <= stage.ttl
    await changed(stage, 4 * stage.ttl)
    victim.alive = False
    assert (await left(heir)) > 3 * stage.ttl
    await stage.pass_time(1.25 * stage.ttl)
    assert await heir.take() == []


@clause
async def check_a_shorter_ttl_holds_on_the_server_when_it_is_complete(stage: Stage) -> None:
    """A renewal extends by it from then on, and no more by the longer one."""
    old = await stage.join()
    await changed(stage, stage.ttl / 2)
    old.heed()
    heir, victim = [await stage.join_now(A, ttl=stage.ttl / 2) for _ in range(2)]
    assert (await left(heir)) > stage.ttl / 2
    await old.leave()
    for actor in (heir, victim):
        actor.heed()
    assert await changed(stage, stage.ttl / 2) == "complete"
    victim.renew()
    assert (await left(heir)) <= stage.ttl / 2
    await stage.submit()
    assert len(await victim.take()) == 1
    await stage.outlive(victim)
    assert len(await heir.take()) == 1


@clause
async def check_a_change_of_the_ttl_can_be_taken_back(stage: Stage) -> None:
    """The same command with the old value; a third value has to wait."""
    actor = await stage.join()
    await changed(stage, 2 * stage.ttl)
    actor.heed()
    try:
        await changed(stage, 3 * stage.ttl)
    except ConfigurationError as error:
        assert f"{2 * stage.ttl:g} s" in str(error)
    else:
        raise AssertionError("a change was begun while another was under way")
    assert await changed(stage, stage.ttl) == "announced"
    actor.heed()
    assert await changed(stage, stage.ttl) == "complete"
    assert actor.renew().change == ""
    assert not isinstance(await refused(stage, 2 * stage.ttl), TtlNotYet)


@clause
async def check_an_acknowledgement_is_of_one_change(stage: Stage) -> None:
    """Taken back and begun again between the same values, it must be heeded anew."""
    actor = await stage.join()
    await changed(stage, stage.ttl / 2)
    actor.heed()
    for _ in range(2):
        await changed(stage, stage.ttl)
        assert await changed(stage, stage.ttl / 2) == "announced"
    actor.heed()
    assert await changed(stage, stage.ttl / 2) == "open"


@clause
async def check_the_quarantine_outlasts_the_longest_lease(stage: Stage) -> None:
    """Everything is lost while the TTL is changed: who knows of the longer one is believed, also if another has joined first."""
    longer = 3 * stage.ttl
    old = await stage.join(LIMITED)
    await changed(stage, longer)
    old.heed()
    new = await stage.join_now(LIMITED, ttl=longer)
    for first in (new, old):
        await stage.harness.forget(keep_jobs=False)
        if first is old:
            newcomer = await stage.join_now(LIMITED)
            assert newcomer.joined.quarantine <= stage.ttl
        again = await stage.join_now(LIMITED, ttl=longer, old=new, heard=new.heard)
        assert again.joined.quarantine > 2.5 * stage.ttl
        assert ttl_change(again.joined.change) is not None
        assert (await again.claim()).quarantine > 2 * stage.ttl


@clause
async def check_the_quarantine_outlasts_the_silence_of_its_first_member(stage: Stage) -> None:
    """Everything is lost, and first comes a worker that was told nothing for long: meanwhile the TTL may have been raised to that."""
    old = await stage.join(LIMITED)
    await stage.harness.forget(keep_jobs=False)
    again = await stage.join_now(LIMITED, old=old, silence=3 * stage.ttl)
    assert 2.5 * stage.ttl < again.joined.quarantine <= 3 * stage.ttl
    await stage.harness.forget(keep_jobs=False)
    at_once = await stage.join_now(LIMITED, old=again, silence=stage.ttl / 2)
    assert stage.ttl / 2 < at_once.joined.quarantine <= stage.ttl


@clause
async def check_a_ttl_cannot_be_changed_before_there_is_one(stage: Stage) -> None:
    """The first worker brings its own."""
    try:
        await changed(stage, stage.ttl)
    except ConfigurationError:
        return
    raise AssertionError("a fleet that nobody ever joined has no lease TTL")


@clause
async def check_the_dead_acknowledge_nothing(stage: Stage) -> None:
    """LOST says nothing of a change."""
    actor, heir = await stage.join(), await stage.join()
    await stage.outlive(actor)
    await changed(stage, 2 * stage.ttl)
    renewed = actor.renew()
    assert (renewed.status, renewed.change) == (Status.LOST, "")
    heir.heed()
    assert await changed(stage, 2 * stage.ttl) == "open"
