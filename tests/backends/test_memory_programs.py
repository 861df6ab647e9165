"""Random programs against the memory server: every invariant after every call, no body too many, no job lost, none run for ever.

Workers here keep the worker's half of the rules (LEASE.md §2: numbers 4, 5, 7 and 9) as plain as can be; what is under test is the
server's half. Faults: lost replies, dead workers, restarts, failovers to a stale replica.
"""

from __future__ import annotations

import copy
from collections import Counter

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowq._model import CancelAnswer, Delivery, Ended, Status, Submission, Want
from flowq.backends.memory import Backup, MemoryServer
from flowq.backends.protocol import MemberFacts, Standing
from flowq.testing.conformance.jobs import again, dead, done, job_id, policy, record, released, succeeded

TTL, MARGIN, LIMIT = 10_000, 3_500, 2
FOR_EVER = 10**12
LANES = {"limited": policy(LIMIT, failure_ttl_ms=FOR_EVER), "free": policy(failure_ttl_ms=FOR_EVER)}
FACTS = MemberFacts(host="here", pid=1, version="0", concurrency=10, backend="none")


@attrs.define(eq=False)
class Worker:
    member: str
    epoch: str
    deadline: int
    session: int = 1
    renews: bool = True
    retired: bool = False
    known: dict[int, Delivery] = attrs.Factory(dict[int, Delivery])
    """Its bodies, by fence."""

    @property
    def me(self) -> Standing:
        return Standing(self.member, self.session, self.epoch, max(self.known, default=0))


@attrs.define
class Ledger:
    """What the outside was told; goes back in time with the server's data."""

    jobs: list[str] = attrs.Factory(list[str])
    ends: Counter[str] = attrs.Factory(Counter[str])


class Programs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000_000
        self.server = MemoryServer(clock=lambda: self.now, seed=0, audited=True)
        self.workers: list[Worker] = []
        self.ledger = Ledger()
        self.backup: tuple[Backup, Ledger] | None = None
        self.batches = 0
        self.join()

    def pick(self, which: int) -> Worker:
        return self.workers[which % len(self.workers)]

    # --- the worker's half ---------------------------------------------------------------------------------------------------

    def retire(self, worker: Worker) -> None:
        """Its lease may have ended: its limited bodies are cancelled, and it acts no more."""
        worker.retired = True
        worker.known = {f: d for f, d in worker.known.items() if d.lane == "free"}

    def reconnect(self, worker: Worker) -> None:
        """Confirm first, then ``mine``."""
        sent = self.now
        confirmed = self.server.confirm(worker.me, list(worker.known.values()))
        if confirmed.status is Status.LOST:
            return self.retire(worker)
        if confirmed.epoch != worker.epoch:
            worker.known = {f: d for f, d in worker.known.items() if f in confirmed.fences}
            for delivery in worker.known.values():
                delivery.epoch = confirmed.epoch
        worker.epoch, worker.deadline = confirmed.epoch, sent + TTL - MARGIN
        worker.session += 1
        self.server.mine(worker.me, list(worker.known.values()))
        return None

    def heard(self, worker: Worker, status: Status) -> bool:
        """Act on what the server says of this worker's standing. True: all is well."""
        if status is Status.LOST:
            self.retire(worker)
        elif status is Status.EPOCH:
            self.reconnect(worker)
        return status is Status.OK

    def tick(self, ms: int) -> None:
        self.now += ms
        for worker in self.workers:
            if worker.retired:
                continue
            if self.now >= worker.deadline:
                self.retire(worker)
            elif worker.renews and self.heard(worker, self.server.renew(worker.me, 0).status):
                worker.deadline = self.now + TTL - MARGIN

    # --- what happens --------------------------------------------------------------------------------------------------------

    @rule()
    def join(self) -> None:
        if sum(not worker.retired for worker in self.workers) < 4:
            joined = self.server.join(FACTS, LANES, ttl=TTL / 1000)
            self.workers.append(Worker(joined.member, joined.epoch, self.now + TTL - MARGIN))

    @rule(
        lane=st.sampled_from(sorted(LANES)),
        count=st.integers(1, 4),
        delay=st.sampled_from([0, 0, 3000]),
        resent=st.booleans(),
    )
    def submit(self, lane: str, count: int, delay: int, resent: bool) -> None:
        batch = [Submission(lane, b'{"args":[]}', delay) for _ in range(count)]
        self.batches += 1
        for _ in range(1 + resent):
            receipts = self.server.submit(f"{self.batches}", batch)
        self.ledger.jobs += [receipt.job_id for receipt in receipts]

    @rule(which=st.integers(0, 9), room=st.integers(0, 5), lost=st.sampled_from([False, False, True]))
    def claim(self, which: int, room: int, lost: bool) -> None:
        worker = self.pick(which)
        if worker.retired:
            return
        claimed = self.server.exchange(worker.me, [], Want(room, 0, {})).claimed
        assert claimed is not None
        if lost:
            self.reconnect(worker)
        elif self.heard(worker, claimed.status):
            assert len(claimed.grants) <= room
            worker.known |= {grant.fence: grant for grant in claimed.grants}

    @rule(
        which=st.integers(0, 9),
        nth=st.integers(0, 9),
        how=st.sampled_from(["done", "kept", "dead", "again", "released"]),
        twice=st.booleans(),
    )
    def settle(self, which: int, nth: int, how: str, twice: bool) -> None:
        worker = self.pick(which)
        if not worker.known:
            return
        delivery = list(worker.known.values())[nth % len(worker.known)]
        ended = self.ended(delivery, how)
        for attempt in range(1 + twice):
            settled = self.server.exchange(worker.me, [ended], None).settled
            assert settled is not None
            if settled.status is not Status.OK:
                if not worker.retired:
                    self.heard(worker, settled.status)
                return
            if not settled.refused and how in {"done", "kept", "dead"}:
                self.ledger.ends[ended.job_id] += 1
            assert not attempt or settled.refused
        del worker.known[delivery.fence]

    def ended(self, delivery: Delivery, how: str) -> Ended:
        match how:
            case "done":
                return done(delivery)
            case "kept":
                return succeeded(delivery, ttl_ms=FOR_EVER)
            case "dead":
                return dead(delivery)
            case "again":
                return again(delivery, delay=2)
            case _:
                return released(delivery)

    @rule(nth=st.integers(0, 99))
    def cancel(self, nth: int) -> None:
        if self.ledger.jobs:
            job = self.ledger.jobs[nth % len(self.ledger.jobs)]
            answer = self.server.cancel(job, "asked", record(status="cancelled", reason="asked"), FOR_EVER)
            assert answer is not CancelAnswer.UNKNOWN or self.ledger.ends[job]

    @rule(ms=st.integers(1, 1600))
    def time_passes(self, ms: int) -> None:
        self.tick(ms)

    @rule()
    def a_while_passes(self) -> None:
        for _ in range(9):
            self.tick(1250)
            self.server.promote()

    @rule(which=st.integers(0, 9), renews=st.booleans())
    def freeze_or_thaw(self, which: int, renews: bool) -> None:
        self.pick(which).renews = renews

    @rule(which=st.integers(0, 9))
    def rejoin(self, which: int) -> None:
        worker = self.pick(which)
        if not worker.retired:
            return
        keep = list(worker.known.values())
        joined = self.server.join(FACTS, LANES, ttl=TTL / 1000, old=worker.member, keep=keep)
        self.workers.remove(worker)
        known = {d.fence: d for d in keep if d.fence in joined.kept}
        for delivery in known.values():
            delivery.epoch = joined.epoch
        self.workers.append(
            Worker(joined.member, joined.epoch, self.now + TTL - MARGIN, known=known)
        )

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: len(self.workers) > 1)
    def leave(self, which: int) -> None:
        worker = self.pick(which)
        if not worker.known:
            self.server.leave(worker.me)
            self.workers.remove(worker)

    @rule(paused=st.booleans(), lane=st.sampled_from(sorted(LANES)))
    def pause(self, paused: bool, lane: str) -> None:
        self.server.pause(lane, paused)

    @rule(limit=st.sampled_from([0, 1, None]))
    def lower_or_reset(self, limit: int | None) -> None:
        self.server.set_limit("limited", limit)

    @rule()
    def restart(self) -> None:
        self.server.forget()

    @rule()
    def take_backup(self) -> None:
        self.backup = (self.server.backup(), copy.deepcopy(self.ledger))

    @rule()
    @precondition(lambda self: self.backup is not None)
    def fail_over(self) -> None:
        assert self.backup is not None
        self.now += 1  # else ids of the lost tail may be given out again in this very millisecond
        self.server.restore(self.backup[0])
        self.ledger = copy.deepcopy(self.backup[1])

    # --- what must hold ------------------------------------------------------------------------------------------------------

    @invariant()
    def never_more_bodies_than_the_limit(self) -> None:
        """P2: over all workers whose own deadline has not passed."""
        bodies = sum(d.lane == "limited" for worker in self.workers for d in worker.known.values())
        assert bodies <= LIMIT

    @invariant()
    def no_job_ends_twice(self) -> None:
        """P4."""
        assert max(self.ledger.ends.values(), default=0) <= 1

    def teardown(self) -> None:
        """P1: with one good worker and time, every job ends, in one way."""
        for worker in self.workers:
            self.retire(worker)
        for lane in LANES:
            self.server.pause(lane, False)
        self.server.set_limit("limited", None)
        self.workers = []
        self.join()
        [worker] = self.workers
        for _ in range(400):
            self.claim(0, 5, False)
            while worker.known:
                self.settle(0, 0, "done", False)
            counts = self.server.snapshot().values()
            if not sum(count.outstanding for count in counts):
                break
            self.tick(1250)
        else:
            raise AssertionError(f"jobs are stuck: {self.server.snapshot()}")
        ends = self.ledger.ends
        ends.update(letter.job_id for letter in self.server.dead_letters if letter.kind == "crashed")
        for job in self.ledger.jobs:
            kept = self.server.record(job)
            ends[job] += kept is not None and kept.reason == "asked"
        assert {job: ends[job] for job in self.ledger.jobs} == dict.fromkeys(self.ledger.jobs, 1)


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
