"""The memory backend as a place."""

from __future__ import annotations

from typing import Any

from flowq._errors import ConfigurationError
from flowq._model import (
    Confirmed,
    Delivery,
    Ended,
    Exchanged,
    Joined,
    LanePolicy,
    Receipt,
    Renewed,
    Settled,
    Submission,
    Want,
)
from flowq.backends.memory import Backup, MemoryServer
from flowq.backends.protocol import Standing

from .served import FACTS, Served, uid_of
from .words import LANES, Reply


class Memory(Served):
    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.server = MemoryServer(clock=lambda: self.now, seed=1, audited=True)
        self.saved: Backup = self.server.backup()

    def _join(
        self, m: str, lanes: dict[str, LanePolicy], ttl: int, old: str, keep: list[Delivery]
    ) -> Joined | None:
        former = self.me[old].member if old else None
        try:
            return self.server.join(FACTS, lanes, ttl=ttl / 1000, old=former, keep=keep)
        except ConfigurationError:
            return None

    def _renew(self, me: Standing) -> Renewed:
        return self.server.renew(me, 0)

    def _confirm(self, me: Standing, known: list[Delivery]) -> Confirmed:
        return self.server.confirm(me, known)

    def _mine(self, me: Standing, known: list[Delivery]) -> Settled:
        return self.server.mine(me, known)

    def _exchange(self, m: str, me: Standing, ended: list[Ended], want: Want | None, first: str) -> Exchanged:
        member = self.server.state.members.get(me.member)
        if want is not None and member is not None and not member.expired:
            pool = self.server.state.pools[member.pool]
            pool.turn = (
                max((lane for lane in pool.lanes if lane != first), default="") if first in pool.lanes else ""
            )
        return self.server.exchange(me, ended, want)

    def leave(self, m: str) -> Reply:
        self.server.leave(self.me[m])
        return ()

    def _submit(self, batch: str, jobs: list[Submission]) -> list[Receipt]:
        return self.server.submit(batch, jobs)

    def _cancel(self, job: str, reason: str, body: bytes, ttl: int) -> str:
        return str(self.server.cancel(job, reason, body, ttl))

    def _status(self, job: str) -> str:
        return str(self.server.status(job))

    def _promote(self) -> float | None:
        return self.server.promote()

    def control(self, lane: str, what: str, value: int) -> Reply:
        if what in ("limit", "reset"):
            self.server.set_limit(lane, value if what == "limit" else None)
        else:
            self.server.pause(lane, what == "pause")
        return ()

    def set_time(self, ms: int) -> Reply:
        self.now = ms
        self.server.snapshot()
        return ()

    def restart(self) -> Reply:
        self.server.forget()
        return ()

    def flush(self) -> Reply:
        self.lost_facts = True
        self.server.forget(keep_jobs=False)
        return ()

    def backup(self) -> Reply:
        self.saved = self.server.backup()
        return ()

    def fail_over(self) -> Reply:
        self.lost_facts = True
        self.server.restore(self.saved)
        return ()

    def _uid_at(self, lane: str, entry: str) -> str:
        return uid_of(self.server.state.lanes[lane].pending[entry].raw)

    def _records(self) -> dict[str, tuple[bytes, int]]:
        s = self.server.state
        return {job: (body, until - s.clock.waiting) for job, (body, until) in s.records.items()}

    def dump(self) -> dict[str, Any]:
        s = self.server.state
        live = [m.name for m in s.members.values() if not m.expired]
        lanes = {name: s.lanes.get(name) for name in LANES}
        now = s.clock.lease
        return {
            "ready": {n: [uid_of(raw) for raw in x.unread.values()] if x else [] for n, x in lanes.items()},
            "held": {
                n: [
                    (uid_of(p.raw), self.owner(p.owner, live), p.n, x.crashes.get(entry, 0))
                    for entry, p in sorted(
                        x.pending.items(), key=lambda row: tuple(map(int, row[0].split("-")))
                    )
                ]
                if x
                else []
                for n, x in lanes.items()
            },
            "delayed": {uid_of(j.raw): j.due - s.clock.waiting for j in s.delayed.values()},
            "moved": sorted(self.uids[job] for job in s.moved),
            "keys": {key: self.uids[job] for key, job in s.keys.items()},
            "cancels": {self._uid_at(lane, entry): why for (lane, entry), why in s.cancels.items()},
            "records": self.records(),
            "dead letters": {n: [(uid_of(x.envelope), x.kind) for x in s.dead if x.lane == n] for n in LANES},
            "limits": s.limits,
            "override": s.override,
            "paused": sorted(s.paused),
            "members": {self.named(m): (s.members[m].expiry - now, s.members[m].session) for m in live},
            "hungry": {
                n: {self.named(m): now - at for m, at in x.hungry.items() if 0 <= now - at <= 1500}
                if x
                else {}
                for n, x in lanes.items()
            },
            "quarantine": s.quarantine_ms if s.founded else 0,
        }
