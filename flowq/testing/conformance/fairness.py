"""Work spreads over the members that have room for it, and one alone takes all."""

from __future__ import annotations

from flowq._model import Delivery
from flowq.testing.conformance.actor import Actor
from flowq.testing.conformance.jobs import done, policy
from flowq.testing.conformance.stage import Clauses, Stage

clause = Clauses()
CHECKS = clause.checks


@clause
async def check_one_member_alone_takes_the_whole_limit(stage: Stage) -> None:
    """Fairness leaves nothing idle where nobody else asks."""
    actor = await stage.join({"a": policy(4)})
    await stage.submit(count=10)
    assert len(await actor.take()) == 4


@clause
async def check_a_member_that_asks_for_nothing_reserves_nothing(stage: Stage) -> None:
    """Another member that is alive but has not come up short does not lower anybody's share."""
    lanes = {"a": policy(4)}
    actor = await stage.join(lanes)
    await stage.join(lanes)
    await stage.submit(count=10)
    assert len(await actor.take()) == 4


@clause
async def check_one_claim_leaves_others_their_part_of_a_backlog(stage: Stage) -> None:
    """Of an unlimited lane, one claim takes at most its part of what waits, and at least one."""
    first = await stage.join()
    second = await stage.join()
    await stage.submit(count=10)
    assert len(await first.take()) == 5
    assert len(await second.take()) >= 2
    while await first.take() + await second.take():
        pass
    await stage.submit(count=1)
    assert len(await second.take()) == 1


async def _contend(stage: Stage) -> tuple[Actor, Actor, list[Delivery]]:
    """One who has all four tokens of a lane with a backlog, one who came up short, and what the first has in hand."""
    lanes = {"a": policy(4)}
    greedy, hungry = await stage.join(lanes), await stage.join(lanes)
    await stage.submit(count=40)
    running = await greedy.take()
    assert len(running) == 4
    assert await hungry.take() == []
    return greedy, hungry, running


async def _four_turns(greedy: Actor, running: list[Delivery]) -> int:
    """End one and claim, four times. Returns how many are in hand then."""
    for _ in range(4):
        running = running[1:] + await greedy.turn([done(running[0])])
    return len(running)


@clause
async def check_a_hungry_member_gets_a_share_of_the_tokens(stage: Stage) -> None:
    """Who came up short is left its share when tokens are freed, also by one that settles and claims in one exchange."""
    greedy, hungry, running = await _contend(stage)
    assert await _four_turns(greedy, running) == 2, "half of the tokens are the other's"
    assert len(await hungry.take()) == 2


@clause
async def check_hunger_ends_with_a_claim_that_does_not_come_up_short(stage: Stage) -> None:
    """A member whose room is used up reserves nothing more."""
    greedy, hungry, running = await _contend(stage)
    await greedy.finish(done(running.pop()))
    [meal] = await hungry.take(1)
    await hungry.finish(done(meal))
    assert len(await greedy.take()) == 1, "it holds three already, more than half"


@clause
async def check_a_dead_member_is_not_hungry(stage: Stage) -> None:
    """The end of its lease ends its claim to a share."""
    greedy, hungry, running = await _contend(stage)
    await stage.outlive(hungry)
    assert await _four_turns(greedy, running) == 4


@clause
async def check_a_member_that_left_is_not_hungry(stage: Stage) -> None:
    """Neither is one that said goodbye."""
    greedy, hungry, running = await _contend(stage)
    await hungry.leave()
    assert await _four_turns(greedy, running) == 4
