"""Broken variants of flowq, one wrong rule each: what the simulation must be able to see.

A variant is patched into the modules that run, for the length of a ``with``. Each comes with a situation in which the checker names
the promise that it breaks, and in which what is shipped breaks none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import anyio
import attrs

from flowq._model import Delivery, LeaseTimes, Released, Status, Succeeded
from flowq._runtime import watchdog
from flowq._runtime.consumer import Consumer
from flowq._runtime.floor import Floor
from flowq._runtime.member import Member
from flowq._runtime.reconcile import Reconciler
from flowq._runtime.shift import Shift
from flowq.backends.memory import fleet, settle, state, submit

from .checker import Violation
from .plan import CallFault, Crash, Cut, Drain, Freeze, Hang, Op, Plan, Server, Start, Submit
from .run import judge, simulate


def _settle_by_entry_alone() -> AbstractContextManager[Any]:
    """Whoever holds an entry may end it: no owner, no delivery number is compared."""
    return mock.patch.object(settle, "owns", lambda lane, delivery, _member: delivery.entry in lane.pending)


@contextmanager
def _ack_before_run() -> Generator[None]:
    """A job is settled when it is granted, as a queue does that pops its jobs."""
    grant = Floor.grant
    take = Floor.take_ended

    def acked(self: Floor, grants: Iterable[Delivery], limits: Any, now: float) -> None:
        grants = list(grants)
        grant(self, grants, limits, now)
        for delivery in grants:
            self.end(delivery, Succeeded(None, 0), f"{delivery.lane}:{delivery.entry}")

    def once(self: Floor) -> Any:
        return [one for one in take(self) if one.delivery.fence in self.known]

    with mock.patch.object(Floor, "grant", acked), mock.patch.object(Floor, "take_ended", once):
        yield


def _no_deadline() -> AbstractContextManager[Any]:
    """A worker trusts its lease until it is told that it is lost."""
    return mock.patch.object(
        LeaseTimes, "of", classmethod(lambda cls, ttl: cls(ttl, ttl / 6, -math.inf, ttl / 8))
    )


def _deadline_without_margin() -> AbstractContextManager[Any]:
    """The worker's deadline is as long as the server's."""
    return mock.patch.object(LeaseTimes, "of", classmethod(lambda cls, ttl: cls(ttl, ttl / 6, 0.0, ttl / 8)))


def _bodies_go_on_after_the_lease() -> AbstractContextManager[Any]:
    """The lease ends, and limited bodies are not cancelled."""
    original = Consumer.cancel

    def cancel(self: Consumer, reason: Any, note: str = "") -> None:
        if reason != "lease_lost":
            original(self, reason, note)

    return mock.patch.object(Consumer, "cancel", cancel)


def _lost_claim_forgotten() -> AbstractContextManager[Any]:
    """A claim whose reply was lost is not reconciled."""
    return mock.patch.object(Reconciler, "is_needed", property(lambda _self: False))


def _mine_hands_back_all() -> AbstractContextManager[Any]:
    """``mine`` hands back what still runs, too."""
    original = fleet.mine
    return mock.patch.object(fleet, "mine", lambda state, me, _known: original(state, me, []))


def _release_on_cancel() -> AbstractContextManager[Any]:
    """A drain hands back bodies when it cancels them, not when they have left."""
    original = Floor.cancel_all

    def cancel_all(self: Floor, reason: Any) -> None:
        for consumer in self.busy():
            if consumer.delivery is not None and consumer.delivery.fence in self.known:
                self.end(consumer.delivery, Released())
        original(self, reason)

    return mock.patch.object(Floor, "cancel_all", cancel_all)


def _no_quarantine() -> AbstractContextManager[Any]:
    """A server that has forgotten who runs lets limited lanes start at once."""

    def forget(state: Any, epoch: str) -> None:
        state.epoch = epoch

    return mock.patch.object(fleet, "forget", forget)


def _timeouts_unseen() -> AbstractContextManager[Any]:
    """The watchdog looks at no body's deadline."""
    return mock.patch.object(watchdog, "expired", return_value=[])


def _all_due() -> AbstractContextManager[Any]:
    """A delayed job is promoted when somebody looks, due or not."""

    def next_due(self: Any) -> float | None:
        return 0 if self.delayed else None

    return mock.patch.object(state.State, "next_due", next_due)


def _submit_twice() -> AbstractContextManager[Any]:
    """A batch that is sent again is stored again."""
    original = submit.submit

    def again(state: Any, batch_id: str, batch: Any) -> Any:
        state.once.pop(batch_id, None)
        return original(state, batch_id, batch)

    return mock.patch.object(submit, "submit", again)


def _expiry_after_half() -> AbstractContextManager[Any]:
    """The server gives a member up after half of its lease."""

    def renew(state: Any, me: Any, *rest: Any) -> Any:
        answer = original(state, me, *rest)
        if answer.status is Status.OK:
            state.members[me.member].expiry = state.clock.lease + state.ttl_ms // 2
        return answer

    original = fleet.renew
    return mock.patch.object(fleet, "renew", renew)


def _joins_before_bodies_left() -> AbstractContextManager[Any]:
    """A worker that lost its lease joins again while limited bodies of it are still leaving."""
    return mock.patch.object(Member, "must_wait", return_value=0.0)


def _outcomes_forgotten() -> AbstractContextManager[Any]:
    """Outcomes whose settle was not answered are not sent again, and their jobs are still ours."""
    return mock.patch.object(Floor, "put_back", return_value=None)


def _no_hand_back() -> AbstractContextManager[Any]:
    """A worker that ends keeps what it has not started, and does not leave."""

    async def close(self: Shift) -> None:
        self._crew.exchange.finish()
        await anyio.lowlevel.checkpoint()

    return mock.patch.object(Shift, "close", close)


def _nothing_adopted() -> AbstractContextManager[Any]:
    """The dead are noticed by nobody: a claim adopts nothing."""
    return mock.patch.object(state.State, "dead_entries", return_value=0)


def _timeout_is_success() -> AbstractContextManager[Any]:
    """A body that was cancelled by its timeout is told as a success."""
    original = Consumer._end

    def end(
        self: Any, delivery: Any, lane: Any, call: Any, now: float, value: Any, failure: Any, astray: bool
    ) -> None:
        if self.reason == "timeout":
            self._succeed(delivery, lane, call, value, now)
        else:
            original(self, delivery, lane, call, now, value, failure, astray)

    return mock.patch.object(Consumer, "_end", end)


@attrs.frozen
class Mutant:
    """A variant, the situation that shows it, and the promises one of which the checker must say it breaks."""

    patch: Callable[[], AbstractContextManager[Any]]
    ops: list[Op]
    promises: tuple[str, ...]
    rest: float = 10.0
    faults: list[CallFault] = attrs.field(factory=list[CallFault])
    workers: int = 1
    concurrency: int = 4

    def plan(self, seed: int) -> Plan:
        return Plan(
            seed=seed,
            ttl=4.0,
            workers=self.workers,
            concurrency=self.concurrency,
            ops=self.ops,
            rest=self.rest,
            faults=self.faults,
        )


PAIR = Submit(0.2, "pair", 2, 8.0)
LIMIT, DEADLINE, DONE = "the limit", "the lease's deadline", "the work is done in the end"
NEWEST, ENDED = "an outcome is of the newest delivery", "an outcome is of a body that ended"

MUTANTS: dict[str, Mutant] = {
    "settle by entry alone": Mutant(
        _settle_by_entry_alone, [Submit(0.2, "free", 2, 3.0), Start(0.1, 1), Freeze(0.4, 0, 6.0)], (NEWEST,)
    ),
    "ack before run": Mutant(_ack_before_run, [Submit(0.2, "free", 2, 1.0)], (ENDED,)),
    "no deadline": Mutant(_no_deadline, [PAIR, Start(0.1, 1), Cut(0.4, 0, 12.0)], (DEADLINE, LIMIT)),
    "deadline without margin": Mutant(
        _deadline_without_margin, [PAIR, Start(0.1, 1), Cut(0.4, 0, 12.0)], (DEADLINE, LIMIT)
    ),
    "bodies go on after the lease": Mutant(
        _bodies_go_on_after_the_lease, [PAIR, Start(0.1, 1), Cut(0.4, 0, 12.0)], (DEADLINE, LIMIT)
    ),
    "lost claim forgotten": Mutant(
        _lost_claim_forgotten,
        [Submit(0.2, "pair", 2, 1.0)],
        (DONE, "no job is lost"),
        faults=[CallFault(0, "exchange", number, "drop_reply") for number in range(2, 6)],
    ),
    "mine hands back all": Mutant(
        _mine_hands_back_all, [PAIR, Start(0.1, 1), Cut(0.4, 0, 0.0)], (LIMIT, NEWEST, "a worker goes on")
    ),
    "release on cancel": Mutant(
        _release_on_cancel,
        [Submit(0.2, "pair", 2, 8.0, "slow"), Start(0.1, 1), Drain(0.4, 0, 0.1)],
        (LIMIT, NEWEST),
    ),
    "no quarantine": Mutant(
        _no_quarantine,
        [PAIR, Start(0.1, 1), Hang(0.3, 0, 2.0), Server(0.0, "flush"), Submit(0.0, "pair", 2, 4.0)],
        (LIMIT,),
    ),
    "timeouts unseen": Mutant(_timeouts_unseen, [Submit(0.2, "brief", 1, 4.0)], ("the timeout",), rest=5.0),
    "all due": Mutant(_all_due, [Submit(0.2, "free", 2, 0.1, "ok", 4.0)], ("not before it is due",)),
    "submit twice": Mutant(
        _submit_twice,
        [Submit(0.2, "free", 2, 0.1)],
        ("one job a submit",),
        faults=[CallFault(9, "submit", 1, "drop_reply")],
    ),
    "expiry after half a lease": Mutant(
        _expiry_after_half, [PAIR, Start(0.1, 1), Cut(0.4, 0, 12.0)], (LIMIT,)
    ),
    "joins before bodies left": Mutant(
        _joins_before_bodies_left,
        [Submit(0.2, "pair", 2, 8.0, "slow"), Start(0.1, 1), Cut(0.4, 0, 2.65)],
        (LIMIT, NEWEST),
        concurrency=2,
    ),
    "outcomes forgotten": Mutant(
        _outcomes_forgotten,
        [Submit(0.2, "free", 2, 0.5)],
        (DONE,),
        faults=[CallFault(0, "exchange", number, "drop_request") for number in range(3, 5)],
    ),
    "no hand-back": Mutant(
        _no_hand_back, [Submit(0.2, "pair", 1, 0.1)], ("who leaves is no member",), rest=0.5
    ),
    "nothing adopted": Mutant(
        _nothing_adopted, [PAIR, Start(0.1, 1), Crash(0.4, 0)], (DONE, "no job is lost")
    ),
    "a timeout is a success": Mutant(_timeout_is_success, [Submit(0.2, "brief", 1, 12.0)], (ENDED,)),
}
TRIES = 12
"""Schedules of one situation, one of which must show the mutant: most show it in the first."""


def expose(mutant: Mutant) -> tuple[Plan, Violation] | None:
    """The first schedule on which the checker sees what the mutant breaks; None: it lives."""
    for seed in range(TRIES):
        plan = mutant.plan(seed)
        with mutant.patch():
            violations = judge(simulate(plan))
        found = next((violation for violation in violations if violation.promise in mutant.promises), None)
        if found is not None:
            return plan, found
    return None
