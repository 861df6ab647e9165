"""Programs: operations drawn as numbers, made sense of by what the workers know, run on every place in lockstep.

A drawn operation is a name and a number. The number is spent like a pack of dice (``Dice``) on what the operation needs, so an operation
nearly always does something, whatever came before it; and a number of 0 is the plainest choice, which is what a failing program shrinks
to.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st

from .model import Model
from .words import LANES, POOLS, START, TTL, End, Job, Place, Reply, Room

T = TypeVar("T")
Operation = tuple[str, int]

WEIGHTS = {
    "work": 16,
    "submit": 8,
    "settle": 8,
    "wait": 6,
    "step": 3,
    "die": 3,
    "join": 2,
    "rejoin": 3,
    "reconnect": 2,
    "settle_wrongly": 3,
    "again": 2,
    "cancel": 4,
    "control": 3,
    "claim_stale": 2,
    "lose_reply": 2,
    "contend": 3,
    "mine": 1,
    "renew": 1,
    "promote": 1,
    "leave": 1,
    "resubmit": 1,
    "status": 1,
    "backup": 1,
    "lose_server": 2,
}
NAMES = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
_operations = st.tuples(st.sampled_from(["rest", *NAMES]), st.integers(0, 2**40))
programs = st.lists(_operations, min_size=50, max_size=50)
"""As long as that, or Hypothesis makes them short and nothing happens in them; a failing one shrinks to ``rest`` where nothing matters."""


def by_seed(seed: int) -> list[Operation]:
    """A program that is always the same one."""
    dice = random.Random(seed)
    return [(dice.choice(NAMES), dice.getrandbits(40)) for _ in range(50)]


TICK = 250
"""Time moves in such steps, and the last three digits of a delay tell its job: no two are due at once."""
G = TTL // 6


class Disagreement(AssertionError):
    """Two places do not show the same."""


class Dice:
    """One drawn number, spent choice by choice."""

    def __init__(self, number: int) -> None:
        self.number = number

    def below(self, n: int) -> int:
        self.number, found = divmod(self.number, n)
        return found

    def one(self, things: Sequence[T]) -> T:
        return things[self.below(len(things))]

    def some(self, things: Sequence[T]) -> list[T]:
        """Each or not; all of them for 0."""
        return [thing for thing in things if self.below(3) != 1]


@attrs.define
class Worker:
    """What a member's process knows."""

    name: str
    pool: int
    known: list[str] = attrs.Factory(list[str])
    """Deliveries that have not ended."""
    doubts: bool = False
    """It was told EPOCH, or lost a connection: it has to confirm."""
    lost: bool = False


class Program:
    """One life of an app on all places."""

    def __init__(self, model: Model, others: Sequence[Place], events: Counter[str]) -> None:
        self.model = model
        self.places: list[Place] = [model, *others]
        self.events = events
        self.done: list[str] = []
        self.workers: list[Worker] = []
        self.lives = 0
        self.time = START
        self.forward_only = False
        self.uids: list[str] = []
        self.batches: list[tuple[int, int, tuple[Job, ...]]] = []
        """Number, waiting time when it was sent, jobs."""
        self.granted: list[str] = []
        self.due = 0

    # --- lockstep

    def call(self, what: str, *args: Any) -> Reply:
        """Do this everywhere; the one answer."""
        self.done.append(f"{what}{args}")
        answers = {place.name: getattr(place, what)(*args) for place in self.places}
        self._same(f"the answer to {what}", answers)
        self._compare()
        answer: Reply = answers["model"]
        return answer

    def _compare(self) -> None:
        dumps = {place.name: place.dump() for place in self.places}
        for part in dumps["model"]:
            self._same(part, {name: dump[part] for name, dump in dumps.items() if part in dump})

    def _same(self, what: str, found: dict[str, Any]) -> None:
        if all(value == found["model"] for value in found.values()):
            return
        said = "".join(f"\n  {name}: {value}" for name, value in found.items())
        raise Disagreement(f"{what}{said}\nafter\n  " + "\n  ".join(self.done))

    def run(self, operations: Sequence[Operation]) -> None:
        self._join(0)
        self._join(1)
        self.call("backup")
        for name, number in operations:
            getattr(self, f"do_{name}")(Dice(number))

    # --- who

    def active(self) -> list[Worker]:
        if not any(not w.lost for w in self.workers):
            self._join(0)
        return [w for w in self.workers if not w.lost]

    def _join(self, pool: int, old: str = "", keep: tuple[str, ...] = ()) -> Worker:
        self.lives += 1
        worker = Worker(f"m{self.lives:02}", pool)  # sorts by age
        answer = self.call("join", worker.name, pool, TTL, old, keep)
        worker.known = list(answer[1])
        self.events["kept"] += len(answer[1])
        self.workers.append(worker)
        return worker

    def _heard(self, worker: Worker, status: str) -> bool:
        self.events[status] += 1
        worker.lost = worker.lost or status == "LOST"
        worker.doubts = worker.doubts or status == "EPOCH"
        return status == "OK"

    def _reconnect(self, worker: Worker) -> None:
        answer = self.call("confirm", worker.name, tuple(worker.known))
        if self._heard(worker, answer[0]):
            self.events["confirmed"] += len(answer[1])
            self.events["not confirmed"] += len(worker.known) - len(answer[1])
            worker.known = list(answer[1])
            worker.doubts = False
            self._heard(worker, self.call("mine", worker.name, tuple(worker.known), False)[0])

    # --- work

    def _claim(
        self, worker: Worker, ends: tuple[End, ...], dice: Dice, *, stale: bool = False, told: bool = True
    ) -> None:
        lanes = sorted(POOLS[worker.pool])
        room, threads = dice.one((2, 1, 4, 3, 2, 0)), dice.one((2, 1, 3, 0))
        extra = {lane: 2 for lane in lanes if lane == "u" and dice.below(3) == 1}
        want = Room(room, threads, extra, dice.one(lanes))
        if len(lanes) > 1 and self.model.next_due() == 0:
            self.call("promote")
        adoptable = {uid for lane in lanes for uid in self.model.orphans(lane)}
        _, answer = self.call("exchange", worker.name, ends, want, stale)
        if not self._heard(worker, answer[0]):
            return
        _, grants, _, (_, _, quarantine, ended, withheld) = answer
        for lane, rows in grants.items():
            for uid, n, crashes in rows:
                name = f"{uid}/{self.model.serial[uid]}"
                self.granted.append(name)
                if told:
                    worker.known.append(name)
                self.events["granted"] += 1
                self.events["adopted"] += uid in adoptable
                self.events["adopted as crashed"] += crashes > 0 and n > 1
            limit = self.model.f.limits.get(lane)
            self.events["at the limit"] += limit is not None and len(self.model.held(lane)) >= limit
        self.events["ended by a claim"] += ended
        self.events["withheld"] += withheld
        self.events["in quarantine"] += quarantine > 0

    def _ends(self, worker: Worker, dice: Dice) -> tuple[End, ...]:
        ends = tuple(self._end(d, dice) for d in dice.some(worker.known)[:5])
        worker.known = [d for d in worker.known if d not in {e.delivery for e in ends}]
        return ends

    def _end(self, delivery: str, dice: Dice) -> End:
        how = dice.one(("ok", "kept", "again", "free", "dead", "cancelled"))
        return End(delivery, how, self._delay(dice.one((0, 1000, 0, 4000))) if how == "again" else 0)

    def _delay(self, ms: int) -> int:
        """0 stays 0; no two delays end at the same moment."""
        self.due += ms > 0
        return ms + self.due % TICK if ms else 0

    def do_rest(self, dice: Dice) -> None:
        """Nothing: what shrinks away."""

    def do_work(self, dice: Dice) -> None:
        """A turn of a worker: settle some, claim more."""
        worker = dice.one(self.active())
        if worker.doubts and dice.below(3) != 1:
            self._reconnect(worker)
        ends = () if worker.doubts else self._ends(worker, dice)
        self._claim(worker, ends, dice)

    def do_settle(self, dice: Dice) -> None:
        busy = [w for w in self.workers if w.known]
        if busy:
            worker = dice.one(busy)
            known = list(worker.known)
            ends = self._ends(worker, dice)
            if ends:
                self._settle(worker, ends)
            if worker.doubts:
                worker.known = known

    def _settle(self, worker: Worker, ends: tuple[End, ...]) -> None:
        answer, _ = self.call("exchange", worker.name, ends, None, False)
        if self._heard(worker, answer[0]):
            self.events.update(why for _, why in answer[1])
            self.events["settled"] += len(ends) - len(answer[1])

    def do_settle_wrongly(self, dice: Dice) -> None:
        """An outcome for a delivery of long ago, or of somebody else: a resend, a zombie, a mix-up."""
        if self.granted and self.workers:
            delivery = dice.one(self.granted[-8:])
            self._settle(dice.one(self.workers), (self._end(delivery, dice),))
            for worker in self.workers:
                if not self.model.owns(worker.name, delivery) and delivery in worker.known:
                    worker.known.remove(delivery)

    def do_claim_stale(self, dice: Dice) -> None:
        """A claim of the session before arrives late; if that was the first one, it is answered, and nobody hears it."""
        self._claim(dice.one(self.active()), (), dice, stale=True, told=False)

    def do_lose_reply(self, dice: Dice) -> None:
        """A claim's reply is lost, and the worker connects anew."""
        worker = dice.one(self.active())
        self._claim(worker, (), dice, told=False)
        if not worker.lost:
            self._reconnect(worker)

    def do_again(self, dice: Dice) -> None:
        """Everything that a worker has runs again at once: jobs leave and enter their streams."""
        worker = dice.one(self.active())
        ends = tuple(End(d, "again") for d in worker.known[:3])
        worker.known = worker.known[3:]
        self._claim(worker, ends if not worker.doubts else (), dice)

    def do_contend(self, dice: Dice) -> None:
        """Two workers of one limited lane, more work than tokens: who holds all of them lets go of one by one."""
        first, second = (dice.one(self._serving("a")) for _ in range(2))
        self._submit([Job(self._uid(), "a") for _ in range(4)])
        for worker in (first, second, first, second):
            if not worker.lost and not worker.doubts:
                ends = tuple(End(d, "ok") for d in worker.known if dice.below(2))[:2]
                worker.known = [d for d in worker.known if d not in {e.delivery for e in ends}]
                self._claim(worker, ends, dice)

    def _serving(self, lane: str) -> list[Worker]:
        found = [w for w in self.active() if lane in POOLS[w.pool]]
        return found if len(found) > 1 else [*found, self._join(0)]

    # --- members

    def do_join(self, dice: Dice) -> None:
        if len(self.active()) < 4:
            # an empty fleet takes another TTL, which the model does not have; a worker that has not asked lately may be dead unknown
            if dice.below(6) == 1 and any(self.model.live(w.name) for w in self.workers):
                self.events.update(self.call("join", "nobody", 0, TTL // 2, "", ()))
            self._join(dice.below(len(POOLS)))

    def do_rejoin(self, dice: Dice) -> None:
        """A worker's next life, mostly after it was lost; what it keeps are bodies that went on."""
        lost = [w for w in self.workers if w.lost] or self.active()
        old = dice.one(lost)
        keep = tuple(dice.some(old.known))
        self.workers.remove(old)
        self._join(old.pool, old.name, keep)
        self.events["rejoined"] += 1

    def do_leave(self, dice: Dice) -> None:
        worker = dice.one(self.active())
        if self.model.live(worker.name):
            self.call("leave", worker.name)
            self.workers.remove(worker)

    def do_renew(self, dice: Dice) -> None:
        worker = dice.one(self.workers or self.active())
        self._heard(worker, self.call("renew", worker.name)[0])

    def do_mine(self, dice: Dice) -> None:
        worker = dice.one(self.active())
        stale = dice.below(2) == 1
        answer = self.call("mine", worker.name, tuple(worker.known), stale)
        self._heard(worker, answer[0])

    def do_reconnect(self, dice: Dice) -> None:
        worker = dice.one(self.active())
        if dice.below(2):
            worker.known = dice.some(worker.known)
        self._reconnect(worker)

    # --- time

    def _to(self, ms: int) -> None:
        before = {m for m, x in self.model.f.members.items() if x.live}
        self.time = ms
        self.call("set_time", ms)
        self.events["expired"] += sum(not self.model.live(m) for m in before)

    def _renew_all(self, but: Worker | None = None) -> None:
        for worker in self.workers:
            if worker is not but and self.model.live(worker.name) and not worker.lost:
                self._heard(worker, self.call("renew", worker.name)[0])

    def do_wait(self, dice: Dice) -> None:
        """Time passes, and who is alive renews; sometimes jobs become due."""
        self._to(self.time + TICK * dice.one((4, 1, 6, 2)))
        if dice.below(2):
            self._renew_all()
        if dice.below(3) == 1:
            self.do_promote(dice)

    def do_step(self, dice: Dice) -> None:
        """The server's clock is set, forward or back."""
        by = dice.one((2 * G // TICK * TICK, 600_000, -1000, -600_000))
        if by > 0 or not self.forward_only:
            self.events["clock set"] += 1
            self._to(self.time + by)
            if dice.below(2):
                self._renew_all()

    def do_die(self, dice: Dice) -> None:
        """A member is not heard of for longer than its lease. The others renew, and mostly one of them claims."""
        active = self.active()
        victim = dice.one([w for w in active if w.known] or active)
        for _ in range(TTL // 1500 + 1):
            self._to(self.time + 1500)
            self._renew_all(but=victim)
        victim.lost = dice.below(4) != 1
        others = [w for w in self.active() if w is not victim]
        if others:
            worker = dice.one(others)
            if worker.doubts:
                self._reconnect(worker)
            self._claim(worker, (), dice)

    def do_promote(self, dice: Dice) -> None:
        self.events["promoted"] += self.model.next_due() == 0
        self.call("promote")

    # --- jobs

    def do_submit(self, dice: Dice) -> None:
        jobs: list[Job] = []
        lane, kind = dice.one(LANES), dice.below(6)
        for _ in range(1 + dice.below(4)):
            uid = self._uid()
            delay = self._delay(dice.one((1000, 4000))) if kind == 1 else 0
            at = self.time + self._delay(dice.one((1000, 3000))) if kind == 2 else 0
            key = f"k{dice.below(2)}" if kind in (1, 3) else ""
            jobs.append(Job(uid, lane, delay, at, key))
            if kind == 4:
                lane = dice.one(LANES)
        self._submit(jobs)

    def _uid(self) -> str:
        self.uids.append(f"j{len(self.uids) + 1}")
        return self.uids[-1]

    def _submit(self, jobs: list[Job]) -> None:
        self.batches.append((len(self.batches), self.model.f.waiting, tuple(jobs)))
        answer = self.call("submit", len(self.batches) - 1, tuple(jobs))
        self.events["submitted"] += len(jobs)
        self.events["key taken"] += sum(not created for _, created in answer)

    def do_resubmit(self, dice: Dice) -> None:
        """The last batch once more, within the window in which that is recognised."""
        if self.batches:
            number, sent, jobs = self.batches[-1]
            if 0 <= self.model.f.waiting - sent < 60_000:
                self.events["sent again"] += 1
                self.call("submit", number, jobs)

    def _job(self, dice: Dice) -> str | None:
        """A job that is or was there, mostly one that has not ended."""
        jobs = self.model.f.jobs
        there = [u for u, j in jobs.items() if j.place != "over" and (j.place == "held" or dice.below(2))]
        return dice.one(there or list(jobs)) if jobs else None

    def do_cancel(self, dice: Dice) -> None:
        uid = self._job(dice)
        if uid is not None:
            self.events.update(self.call("cancel", uid, dice.one(("why not", "enough"))))

    def do_status(self, dice: Dice) -> None:
        uid = self._job(dice)
        if uid is not None:
            self.events.update(self.call("status", uid))

    def do_control(self, dice: Dice) -> None:
        lane = dice.one(LANES)
        what = dice.one(("reset", "limit", "resume", "limit", "pause"))
        self.call("control", lane, what, dice.below(4))
        self.events["limit changed"] += 1

    # --- the server forgets

    def do_lose_server(self, dice: Dice) -> None:
        """It forgets, in one of three ways; mostly the workers find that out, and the quarantine passes."""
        self.events["server lost"] += 1
        dice.one((self.do_restart, self.do_fail_over, self.do_restart, self.do_fail_over, self.do_flush))(
            dice
        )
        if dice.below(4):
            for worker in self.active():
                self._reconnect(worker)
            for _ in range(TTL // 1500 + 1):
                self._to(self.time + 1500)
                self._renew_all()

    def do_restart(self, dice: Dice) -> None:
        self.call("restart")

    def do_backup(self, dice: Dice) -> None:
        self.call("backup")

    def do_fail_over(self, dice: Dice) -> None:
        self.time += TICK
        self.forward_only = True
        self.call("set_time", self.time)
        self.call("fail_over")

    def do_flush(self, dice: Dice) -> None:
        self.call("flush")
