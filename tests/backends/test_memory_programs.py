"""Random programs against the memory server: every invariant after every call, no body too many, no job lost, none ended twice.

Workers here keep the worker's half of the rules (LEASE.md §2: numbers 4, 5, 7 and 9) as plain as can be; what is under test is the
server's half. Faults: lost replies, late requests, stalled workers, restarts, failovers to a stale replica. Plain seeded random
and no Hypothesis: its programs were so short and its draws so even that they started next to nothing.
"""

from __future__ import annotations

import copy
import random
from collections import Counter

import attrs
import pytest

from flowq._model import Again, CancelAnswer, Delivery, Ended, Released, Status, Submission, Want
from flowq.backends.memory import MemoryServer
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


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_700_000_000_000
        self.server = MemoryServer(clock=lambda: self.now, seed=seed, audited=True)
        self.workers: list[Worker] = []
        self.ledger = Ledger()
        self.sent: list[tuple[Standing, Ended]] = []
        self.happened: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        rules = {
            self.submit: 8,
            self.claim: 12,
            self.settle: 10,
            self.time_passes: 10,
            self.resend: 3,
            self.stall: 3,
            self.rejoin: 3,
            self.join: 2,
            self.leave: 1,
            self.cancel: 1,
            self.control: 1,
            self.restart: 0.5,
            self.fail_over: 1,
        }
        for step in self.random.choices(list(rules), list(rules.values()), k=steps):
            self.happened[step.__name__] += 1
            step()
            self.check()

    def active(self) -> Worker:
        """Somebody who has not given up; a newcomer if there is none."""
        active = [worker for worker in self.workers if not worker.retired]
        if not active:
            self.join()
            active = self.workers[-1:]
        return self.random.choice(active)

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

    def join(self) -> None:
        if sum(not worker.retired for worker in self.workers) < 4:
            joined = self.server.join(FACTS, LANES, ttl=TTL / 1000)
            self.workers.append(Worker(joined.member, joined.epoch, self.now + TTL - MARGIN))

    def submit(self) -> None:
        lane, count, delay = (
            self.random.choice(["limited", "limited", "free"]),
            self.random.randint(1, 4),
            self.random.choice([0, 0, 3000]),
        )
        batch = [Submission(lane, b'{"args":[]}', delay) for _ in range(count)]
        batch_id = f"{self.random.getrandbits(64)}"
        receipts = self.server.submit(batch_id, batch)
        resent = self.server.submit(batch_id, batch)
        assert [r.job_id for r in resent] == [r.job_id for r in receipts]
        self.ledger.jobs += [receipt.job_id for receipt in receipts]

    def claim(self, worker: Worker | None = None) -> None:
        worker = worker or self.active()
        room = self.random.randint(1, 4)
        claimed = self.server.exchange(worker.me, [], Want(room, 0, {})).claimed
        assert claimed is not None
        if self.random.random() < 0.15:
            self.lose_reply(worker)
        elif self.heard(worker, claimed.status):
            assert len(claimed.grants) <= room
            worker.known |= {grant.fence: grant for grant in claimed.grants}
            self.happened.update("adopted" if grant.n > 1 else "started" for grant in claimed.grants)

    def lose_reply(self, worker: Worker) -> None:
        """The reply of a claim is lost; after the reconnect, the same claim arrives once more."""
        stale = worker.me
        self.reconnect(worker)
        late = self.server.exchange(stale, [], Want(4, 0, {})).claimed
        assert late is not None
        assert not late.grants, "a claim of the session before"

    def settle(self, worker: Worker | None = None) -> None:
        busy = [worker for worker in self.workers if worker.known]
        worker = worker or (self.random.choice(busy) if busy else None)
        if worker is None or not worker.known:
            return
        delivery = self.random.choice(list(worker.known.values()))
        ended = self.ended(delivery)
        settled = self.server.exchange(worker.me, [ended], None).settled
        assert settled is not None
        if settled.status is not Status.OK:
            if not worker.retired:
                self.heard(worker, settled.status)
            return
        self.happened["refused" if settled.refused else "settled"] += 1
        if not settled.refused and not isinstance(ended.outcome, Again | Released):
            self.ledger.ends[ended.job_id] += 1
        self.sent.append((worker.me, ended))
        del worker.known[delivery.fence]

    def ended(self, delivery: Delivery) -> Ended:
        how = self.random.choice(["done", "done", "kept", "dead", "again", "released"])
        match how:
            case "done":
                return done(delivery)
            case "kept":
                return succeeded(delivery, ttl_ms=FOR_EVER)
            case "dead":
                return dead(delivery)
            case "again":
                return again(delivery, delay=self.random.choice([0, 2]))
            case _:
                return released(delivery)

    def resend(self) -> None:
        """A reply was lost: whatever happened since, the same outcome once more changes nothing."""
        if self.sent:
            me, ended = self.random.choice(self.sent[-6:])
            settled = self.server.exchange(me, [ended], None).settled
            assert settled is not None
            assert settled.refused or settled.status is Status.EPOCH

    def cancel(self) -> None:
        if self.ledger.jobs:
            job = self.random.choice(self.ledger.jobs)
            answer = self.server.cancel(job, "asked", record(status="cancelled", reason="asked"), FOR_EVER)
            assert answer is not CancelAnswer.UNKNOWN or self.ledger.ends[job]

    def time_passes(self) -> None:
        self.tick(self.random.randint(1, 1600))
        self.server.promote()

    def stall(self) -> None:
        """One worker does not renew for a while; after 6.5 s it gives up, after 10 it is dead to the server."""
        worker = self.active()
        worker.renews = False
        for _ in range(self.random.randint(3, 12)):
            self.tick(1000)
            if self.random.random() < 0.5:
                self.claim()
        worker.renews = True

    def rejoin(self) -> None:
        retired = [worker for worker in self.workers if worker.retired]
        if not retired:
            return
        worker = self.random.choice(retired)
        keep = list(worker.known.values())
        joined = self.server.join(FACTS, LANES, ttl=TTL / 1000, old=worker.member, keep=keep)
        self.workers.remove(worker)
        known = {d.fence: d for d in keep if d.fence in joined.kept}
        for delivery in known.values():
            delivery.epoch = joined.epoch
        self.workers.append(Worker(joined.member, joined.epoch, self.now + TTL - MARGIN, known=known))
        self.happened["kept"] += len(known)

    def leave(self) -> None:
        worker = self.active()
        if not worker.known:
            self.server.leave(worker.me)
            self.workers.remove(worker)

    def control(self) -> None:
        self.server.set_limit("limited", self.random.choice([0, 1, None, None]))
        paused = self.random.choice([None, None, *LANES])
        for name in LANES:
            self.server.pause(name, name == paused)

    def restart(self) -> None:
        self.server.forget()

    def fail_over(self) -> None:
        """To a replica that stopped a while ago; some workers do not notice it for a while."""
        backup, ledger = self.server.backup(), copy.deepcopy(self.ledger)
        for _ in range(self.random.randint(0, 9)):
            self.tick(1000)
            self.random.choice([self.settle, self.claim])()
        self.now += 1  # else ids of the lost tail may be given out again in this very millisecond
        self.server.restore(backup)
        self.ledger = ledger
        for worker in self.workers:
            worker.renews = self.random.random() < 0.3
        for _ in range(self.random.randint(0, 6)):
            self.tick(1000)
            awake = [worker for worker in self.workers if worker.renews and not worker.retired]
            if awake:
                self.claim(self.random.choice(awake))
                self.check()
        for worker in self.workers:
            worker.renews = True

    # --- what must hold ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """P2, over all workers whose own deadline has not passed; and P4."""
        bodies = sum(d.lane == "limited" for worker in self.workers for d in worker.known.values())
        assert bodies <= LIMIT
        self.happened["full"] += bodies == LIMIT
        assert max(self.ledger.ends.values(), default=0) <= 1

    def drain(self) -> None:
        """P1: with one good worker and time, every job ends, and in one way."""
        for lane in LANES:
            self.server.pause(lane, False)
        self.server.set_limit("limited", None)
        self.workers = []
        self.join()
        [worker] = self.workers
        for _ in range(400):
            claimed = self.server.exchange(worker.me, [], Want(4, 0, {})).claimed
            assert claimed is not None
            assert claimed.status is Status.OK
            self.server.exchange(worker.me, [done(grant) for grant in claimed.grants], None)
            self.ledger.ends.update(map(job_id, claimed.grants))
            if not sum(counts.outstanding for counts in self.server.snapshot().values()):
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


@pytest.mark.slow
def test_programs() -> None:
    """Three hundred random steps, then everything must come to its end; and the steps were eventful enough to prove something."""
    happened: Counter[str] = Counter()
    for seed in range(40):
        world = World(seed)
        try:
            world.run(300)
            world.drain()
        except AssertionError as error:
            error.add_note(f"World({seed}); {dict(world.happened)}")
            raise
        happened += world.happened
    assert happened["started"] > 1000
    assert happened["adopted"] > 500
    assert happened["settled"] > 1000
    assert happened["kept"] > 100
    assert happened["refused"] > 40
    assert happened["full"] > 1000, "how often as many ran as the limit allows"
