"""All of the rules behind one lock: what the clients of one place share."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from flowq._fleet import Survey, TtlChange
from flowq._model import (
    CancelAnswer,
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    JobStatus,
    Joined,
    LanePolicy,
    Receipt,
    Record,
    Renewed,
    Settled,
    Submission,
    Want,
)
from flowq.backends.memory import audit, claim, fleet, jobs, lease_ttl, settle, submit
from flowq.backends.memory.bell import Bell, Wake
from flowq.backends.memory.clock import unix_clock
from flowq.backends.memory.rows import DeadLetter, Effects
from flowq.backends.memory.state import State
from flowq.backends.protocol import MemberFacts, Standing


@attrs.frozen
class Backup:
    """A copy of everything a server knew at one moment; what a stale replica holds."""

    state: State = attrs.field(repr=False)


class MemoryServer:
    """One place for jobs, in this process; each ``open_memory(server)`` is a client of it.

    Every method is one atomic transition, plain and sync: it never waits, and any thread may call it.

    Args:
        clock: the server's time, unix milliseconds; may step back and forth. None: the clock of the event loop that opens the
            server, so that a virtual clock moves this server, too.
        seed: makes member ids and epochs repeatable.
        audited: check every invariant after every call (slow, for tests).
    """

    def __init__(
        self, *, clock: Callable[[], int] | None = None, seed: int | None = None, audited: bool = False
    ) -> None:
        self._clock = clock
        self._injected = clock is not None
        self._clients = 0
        self._random = random.Random(seed)  # noqa: S311 - names, not secrets; a seed repeats a simulation
        self._audited = audited
        self._lock = threading.RLock()
        self._state = State(epoch=self._nonce())  # empty and ours: the one start that needs no quarantine
        self._bells: dict[str, Bell] = {}
        self._waiters: dict[str, list[Wake]] = {}
        self._controls: list[Callable[[], None]] = []
        self.restarts = 0
        """How often it forgot: every connection broke then."""

    def connect(self) -> None:
        """A client opens. The first one's event loop gives the clock, unless one was given, until all have closed."""
        with self._lock:
            if not self._injected and not self._clients:
                self._clock = unix_clock()
            self._clients += 1

    def disconnect(self) -> None:
        """A client closes."""
        with self._lock:
            self._clients -= 1

    @property
    def now_ms(self) -> int:
        """The server's time, unix milliseconds."""
        if self._clock is None:
            raise RuntimeError("this MemoryServer has no clock yet: open it in an event loop, or pass clock=")
        return self._clock()

    def _nonce(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    @contextmanager
    def _call(self) -> Generator[State, None, None]:
        """One transition: the clock first, then what has expired, then the body; last, wake who waited for it."""
        with self._lock:
            state = self._state
            state.clock.tick(self.now_ms, state.step_ms)
            jobs.prune(state)
            fleet.sweep(state)
            try:
                yield state
            finally:
                self._pass_on()
            if self._audited:
                audit.check(self._state)

    def _pass_on(self) -> None:
        effects, self._state.effects = self._state.effects, Effects()
        for pool in effects.pools:
            self._bell(pool).ring()
        for job_id in effects.jobs:
            for wake in self._waiters.pop(job_id, []):
                wake.set()
        if effects.control:
            for callback in list(self._controls):
                callback()

    def _bell(self, pool: str) -> Bell:
        return self._bells.setdefault(pool, Bell())

    # The four Protocols, as transitions.

    def submit(self, batch_id: str, batch: Sequence[Submission]) -> list[Receipt]:
        with self._call() as state:
            return submit.submit(state, batch_id, batch)

    def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        with self._call() as state:
            settled = settle.settle(state, me, ended) if ended else None
            lanes = {one.delivery.lane for one in ended}
            if want is not None:
                return Exchanged(settled, claim.claim(state, me, want, lanes))
            for lane in lanes:
                state.ring(lane)
            return Exchanged(settled, None)

    def mine(self, me: Standing, known: Sequence[Delivery]) -> Settled:
        with self._call() as state:
            return fleet.mine(state, me, known)

    def join(
        self,
        facts: MemberFacts,
        lanes: Mapping[str, LanePolicy],
        *,
        ttl: float,
        old: str | None = None,
        keep: Sequence[Delivery] = (),
        heard: str = "",
        silence: float = 0.0,
    ) -> Joined:
        with self._call() as state:
            said = lease_ttl.Said(round(ttl * 1000), heard, round(silence * 1000))
            return fleet.join(state, self._nonce(), facts, lanes, said, old=old, keep=keep)

    def renew(self, me: Standing, running: int, heard: str = "") -> Renewed:
        with self._call() as state:
            return fleet.renew(state, me, running, heard)

    def change_ttl(self, ttl: float) -> TtlChange:
        with self._call() as state:
            return lease_ttl.change_ttl(state, round(ttl * 1000), self._nonce())

    def confirm(self, me: Standing, known: Sequence[Delivery]) -> Confirmed:
        with self._call() as state:
            return fleet.confirm(state, me, known)

    def leave(self, me: Standing) -> None:
        with self._call() as state:
            fleet.leave(state, me)

    def set_limit(self, lane: str, limit: int | None) -> None:
        with self._call() as state:
            fleet.set_limit(state, lane, limit)

    def pause(self, lane: str, paused: bool) -> None:
        with self._call() as state:
            fleet.pause(state, lane, paused)

    def cancels(self) -> list[tuple[str, str, str]]:
        with self._call() as state:
            return fleet.cancels(state)

    def survey(self, me: Standing) -> Survey:
        with self._call() as state:
            return fleet.survey(state, me, self.now_ms / 1000)

    def promote(self) -> float | None:
        with self._call() as state:
            return submit.promote(state)

    def status(self, job_id: str) -> JobStatus:
        with self._call() as state:
            return jobs.status(state, job_id)

    def record(self, job_id: str) -> Record | None:
        with self._call() as state:
            return jobs.record(state, job_id)

    def cancel(self, job_id: str, reason: str, record: bytes, ttl_ms: int) -> CancelAnswer:
        with self._call() as state:
            return jobs.cancel(state, job_id, reason, record, ttl_ms)

    # Waiting: the server keeps who waits, ``place`` waits.

    def listen(self, member: str, wake: Wake) -> bool:
        """Put a listener at the bell of the member's pool. False: there is no such member, hence no bell."""
        with self._call() as state:
            found = state.members.get(member)
            if found is None:
                return False
            self._bell(found.pool).listen(wake)
            return True

    def hang_up(self, member: str, wake: Wake, *, heard: bool) -> None:
        """Take a listener away; a ring that it got and did not hear goes to the next one."""
        with self._lock:
            for bell in self._bells.values():
                bell.hang_up(wake)
            found = self._state.members.get(member)
            if wake.rung and not heard and found is not None:
                self._bell(found.pool).ring()

    def watch(self, job_id: str, wake: Wake) -> None:
        with self._lock:
            self._waiters.setdefault(job_id, []).append(wake)

    def unwatch(self, job_id: str, wake: Wake) -> None:
        with self._lock:
            waiting = self._waiters.get(job_id, [])
            if wake in waiting:
                waiting.remove(wake)
            if not waiting:
                self._waiters.pop(job_id, None)

    def add_control(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._controls.append(callback)

    def remove_control(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._controls.remove(callback)

    # For tests: faults of a server, and what it holds.

    def forget(self, *, keep_jobs: bool = True) -> None:
        """Restart: nothing is known for sure of what ran, and every connection broke.

        Args:
            keep_jobs: False loses everything (FLUSHALL); True keeps what was stored, as a restart with a full log does.
        """
        with self._call() as state:
            self._restart(state if keep_jobs else State(self._nonce(), copy.copy(state.clock), state.ttl_ms))

    def backup(self) -> Backup:
        """What a replica that is never updated again would hold."""
        with self._call() as state:
            return Backup(copy.deepcopy(state))

    def restore(self, backup: Backup) -> None:
        """Fail over to a stale replica: everything after the backup is lost, its clocks included."""
        with self._lock:
            self._state = copy.deepcopy(backup.state)
            with self._call() as state:
                self._restart(state)

    def _restart(self, state: State) -> None:
        self._state = state
        fleet.forget(state, self._nonce())
        self.restarts += 1
        for bell in self._bells.values():
            bell.rings = 0
        state.effects.jobs.update(self._waiters)
        for lane in state.lanes:
            state.ring(lane)

    @property
    def state(self) -> State:
        """All that it holds, to look at. To change it is to be another server."""
        return self._state

    @property
    def dead_letters(self) -> list[DeadLetter]:
        with self._lock:
            return list(self._state.dead)

    def snapshot(self) -> dict[str, audit.LaneCounts]:
        """Counts per lane, after noticing what has expired."""
        with self._call() as state:
            return audit.snapshot(state)

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant does not hold."""
        with self._call() as state:
            audit.check(state)
