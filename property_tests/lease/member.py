"""A worker without a loop: what LEASE §2 demands of the runtime, as a machine that asks for requests and is told replies.

No I/O and no clock: every method takes the time. Whoever drives it can lose a request, lose its reply, or hand over a reply late.
The mutants patch this file's text: it is the rule, not only a test's helper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from flowq._fleet import ttl_change
from flowq._model import Delivery, Ended, LanePolicy, Status, Want
from flowq.backends.protocol import OtherTtl, Standing, TtlNotYet
from flowq.backends.redis import scripts

from .body import CONCURRENCY, Body, Held, Request, Times, outcome_of


class Member:
    """A worker process: its loop (one request at a time), its keeper, its watchdog and its bodies."""

    def __init__(
        self,
        name: str,
        pool: str,
        lanes: Mapping[str, LanePolicy],
        ttl: int,
        born: int,
        start: Callable[[Body], None],
    ) -> None:
        self.name, self.pool, self.lanes, self._start_hook = name, pool, lanes, start
        self.ttl = ttl
        """What it was started with."""
        self.heard = self.waits_for = ""
        """The change of the fleet's TTL that it heeds; the one for which it was told to wait."""
        self.refused = False
        self.rests_until = 0
        """Its predecessor was refused: whoever starts it again waits a moment."""
        self._last_told = 0
        self._told_at = born
        """When the last request was sent whose answer told of a change, or of none; or when it was started."""
        self._ids = count(1)
        self._turn = 0
        self.id = ""
        self.old: list[str] = []
        """Former names: the last one, and those whose join was not answered."""
        self.epoch = ""
        self.session = 0
        self.fence = 0
        self.deadline = 0
        self.renewed = 0
        self.known: dict[int, Held] = {}
        self.bodies: list[Body] = []
        self.waiting: Request | None = None
        self.greeted = self.confirmed = self.reconciled = False
        self.short = False
        """The last claim came up short: wait for a ring."""
        self.withheld = False
        """The last claim left work to others: listen a little later than they."""
        self.settled_late = False
        self.paused = self.cut = self.virgin_ok = False

    @property
    def times(self) -> Times:
        """Of the TTL that it trusts: its own, and while the fleet's is being changed the smaller value."""
        both = ttl_change(self.heard)
        return Times.of(int(min(both) * 1000) if both else self.ttl)

    def nonce(self) -> str:
        return f"{self.name}n{next(self._ids)}"

    def standing(self, member: str = "") -> Standing:
        return Standing(member=member or self.id, session=self.session, epoch=self.epoch, fence=self.fence)

    def running(self, now: int) -> list[Held]:
        return [h for h in self.known.values() if h.body is not None and h.body.stops is None]

    def room(self, now: int, lane: str | None = None) -> int:
        """Free consumers: a cancelled body occupies its consumer until it has unwound."""
        busy = sum(b.runs(now) for b in self.bodies if lane is None or b.lane == lane)
        return (CONCURRENCY if lane is None else self.threads) - busy

    threads = 2
    """For lanes of sync tasks."""

    # --- the loop: one request at a time

    def request(self, now: int, extra: int = 0) -> Request | None:
        """What the loop sends next; None: it cannot send anything now."""
        self.watch(now)
        if self.waiting is not None or now < self.rests_until:
            return None
        if not self.greeted:
            return self._ask("hello", now, [("hello", [self.nonce()])])
        if not self.id:
            return self._settle_late(now) or self._join(now)
        if not self.confirmed:
            listed = [h.delivery for h in self.known.values()]
            return self._ask(
                "confirm", now, [("confirm", scripts.confirm(self.standing(), self.nonce(), listed))], listed
            )
        if not self.reconciled:
            listed = [h.delivery for h in self.known.values()]
            return self._ask("mine", now, [("mine", scripts.mine(self.standing(), listed))], listed)
        return self._exchange(now, extra)

    def _ask(
        self, kind: str, now: int, calls: list[tuple[str, scripts.Args]], listed: list[Delivery] | None = None
    ) -> Request:
        self.waiting = Request(kind, calls, self.id, now, listed=listed or [])
        return self.waiting

    def _settle_late(self, now: int) -> Request | None:
        """What ended before the lease did is settled under the old name: it counts if nobody has taken it over."""
        ended = [h.ended for h in self.known.values() if h.ended is not None]
        if self.settled_late or not ended or not self.old:
            return None
        args, ended = scripts.settle(self.standing(self.old[0]), ended, False)
        request = self._ask("late", now, [("settle", args)])
        request.ended = ended
        return request

    def _on_late(self, request: Request, replies: list[Any], now: int) -> None:
        self.settled_late = True
        self._on_settle(request, replies[0])

    def _join(self, now: int) -> Request | None:
        # joining with `old` hands its entries back at once: nobody may still run them
        if any(b.limited and b.runs(now) for b in self.bodies):
            return None
        keep = [h.delivery for h in self.known.values() if not h.limited]
        new = f"{self.name}.{next(self._ids)}"
        args = scripts.join(
            *(new, self.nonce()),
            ttl_ms=self.ttl,
            virgin_ok=self.virgin_ok,
            old=" ".join(self.old),
            pool=self.pool,
            facts=b"{}",
            lanes=self.lanes,
            keep=keep,
            heard=self.heard or (self.waits_for and f"?{self.waits_for}"),
            silence_ms=now - self._told_at,
        )
        request = self._ask("join", now, [("join", args)], keep)
        request.new_id = new
        self.old.append(new)
        return request

    def _exchange(self, now: int, extra: int) -> Request:
        ended = [h.ended for h in self.known.values() if h.ended is not None]
        unstarted = sum(h.body is None and h.ended is None for h in self.known.values())
        want = Want(
            room=max(0, self.room(now) - unstarted),
            threads=max(0, self.room(now, "b")),
            extra={"u": extra} if extra else {},
        )
        calls: list[tuple[str, scripts.Args]] = []
        if ended:
            args, ended = scripts.settle(self.standing(), ended, want.room > 0)
            calls.append(("settle", args))
        self._turn += 1
        calls.append(("claim", scripts.claim(self.standing(), want, self._turn)))
        request = self._ask("exchange", now, calls)
        request.ended = ended
        return request

    def leave(self, now: int) -> Request | None:
        """End this membership, if nothing runs and nothing is unsent."""
        if (
            not self.id
            or self.waiting
            or not self.greeted
            or any(h.body or h.ended for h in self.known.values())
        ):
            return None
        request = self._ask("leave", now, [("leave", [self.id])])
        # it has left, whatever comes back: a leave that is executed late hands back all that this name owns
        self.old, self.id, request.member = [self.id], "", ""
        return request

    def broken(self) -> None:
        """The connection is gone; whether the request was executed is not known."""
        self.reconnect()
        self.waiting = None

    def reconnect(self) -> None:
        """A new connection: nothing of the old one is to be believed until the server was asked."""
        self.session += 1
        self.greeted = self.reconciled = False

    # --- replies

    def reply(self, request: Request, replies: list[Any], now: int) -> None:
        """The loop reads a reply. That of a connection it has given up, or of a former life, is nobody's."""
        if request is not self.waiting:
            return
        self.waiting = None
        self.watch(now)
        if request.member != self.id:
            return
        getattr(self, "_on_" + request.kind)(request, replies, now)

    def _on_hello(self, request: Request, replies: list[Any], now: int) -> None:
        self.greeted = True
        if self.id and replies[0][0].decode() != self.epoch:
            self._doubt()

    def _doubt(self) -> None:
        self.confirmed = self.reconciled = False

    def _on_join(self, request: Request, replies: list[Any], now: int) -> None:
        try:
            joined = scripts.read_join(replies[0], request.new_id, request.listed, self.ttl)
        except TtlNotYet as wait:
            self.waits_for, self._told_at = wait.change, request.sent
            return
        except OtherTtl:
            self.refused = True
            return
        self.heard, self._told_at = joined.change, request.sent
        self.id, self.old, self.epoch = joined.member, [], joined.epoch
        self.renewed, self.deadline = request.sent, request.sent + self.times.local
        self.confirmed = self.reconciled = True
        self.short = False
        self._keep_only(set(joined.kept), now)
        for h in self.known.values():
            if h.body is not None:
                h.body.lease_ended, h.body.life = None, self.id
        self.watch(now)

    def _keep_only(self, fences: set[int], now: int) -> None:
        for fence, held in list(self.known.items()):
            if fence in fences:
                held.delivery.epoch = self.epoch
            else:
                self._drop(fence, now)

    def _drop(self, fence: int, now: int) -> None:
        """Cancel the body if it runs, and forget the delivery."""
        held = self.known.pop(fence)
        if held.body is not None and held.body.stops is None:
            held.body.stops = now + self.times.unwind

    def _on_confirm(self, request: Request, replies: list[Any], now: int) -> None:
        confirmed = scripts.read_confirm(replies[0], request.listed)
        if confirmed.status is Status.LOST:
            self.retire(now)
            return
        self.epoch = confirmed.epoch
        self._keep_only(set(confirmed.fences), now)
        self.renewed, self.deadline = request.sent, request.sent + self.times.local
        self.confirmed = True
        self._start(now)

    def _on_mine(self, request: Request, replies: list[Any], now: int) -> None:
        status = scripts.read_settle(replies[0][:1], []).status
        if status is Status.LOST:
            self.retire(now)
            return
        assert status is Status.OK, status
        self.reconciled = True

    def _on_leave(self, request: Request, replies: list[Any], now: int) -> None:
        self.old.clear()
        self.known.clear()

    def _on_exchange(self, request: Request, replies: list[Any], now: int) -> None:
        if request.ended:
            self._on_settle(request, replies[0])
        claimed = scripts.read_claim(replies[-1], now / 1000)
        if claimed.status is Status.LOST:
            self.retire(now)
        elif claimed.status is not Status.OK or claimed.epoch != self.epoch:
            self._doubt()
        else:
            self.short = len(claimed.grants) < self.room(now)
            self.withheld = claimed.withheld
            for grant in claimed.grants:
                self.fence = max(self.fence, grant.fence)
                self.known[grant.fence] = Held(grant, grant.lane in claimed.limits, json.loads(grant.raw))
            self._start(now)

    def _on_settle(self, request: Request, reply: list[Any]) -> None:
        if scripts.read_settle(reply, request.ended).status is Status.EPOCH:
            self._doubt()
            return
        for e in request.ended:
            self.known.pop(e.delivery.fence, None)

    def _start(self, now: int) -> None:
        """A body starts only if its delivery is known, of the confirmed epoch, and the member's deadline is ahead."""
        for fence, held in self.known.items():
            if held.body is not None or held.ended is not None or self.room(now) <= 0:
                continue
            if held.delivery.epoch == self.epoch and now < self.deadline:
                d = held.delivery
                held.body = Body(held.envelope["x"], d.lane, d.entry, fence, held.limited, self, self.id, now)
                self.bodies.append(held.body)
                self._start_hook(held.body)

    # --- the keeper, the watchdog

    def renewal(self, now: int) -> Request:
        """What the keeper's thread sends: nothing of it depends on the loop's state. A change is told once its times hold."""
        self._cut(now)
        args = scripts.renew(self.standing(), self.nonce(), len(self.known), self.heard)
        return Request("renew", [("renew", args)], self.id, now, number=next(self._ids))

    def renewal_reply(self, request: Request, replies: list[Any], now: int) -> None:
        """Extends only a life that still runs, in its epoch, counted from when the renewal was sent."""
        self.watch(now)
        if request.member != self.id:
            return
        renewed = scripts.read_renew(replies[0])
        if renewed.status is Status.LOST:
            self.retire(now)
        elif renewed.status is Status.EPOCH:
            self._doubt()
        else:
            self.renewed = request.sent
            self.deadline = max(self.deadline, request.sent + self.times.local)
        if renewed.status is not Status.LOST and request.number > self._last_told:
            # the keeper has one renewal under way: it never reads the answer to an older one after that to a newer one
            self.heard, self._last_told, self._told_at = renewed.change, request.number, request.sent
            self._cut(now)
        for lane, entry, reason in renewed.cancels:
            for fence, held in self.known.items():
                if (held.delivery.lane, held.delivery.entry) == (lane, entry) and held.ended is None:
                    self.end(fence, "cancelled", now, reason)

    def _cut(self, now: int) -> None:
        """A shorter TTL holds for the lease that runs, too."""
        self.deadline = min(self.deadline, now + self.times.local)

    def watch(self, now: int) -> None:
        """The watchdog: at the deadline this life is over."""
        if self.id and now >= self.deadline:
            self.retire(now)
        self.bodies = [b for b in self.bodies if b.runs(now)]

    def retire(self, now: int) -> None:
        """End this life: limited bodies are cancelled, unlimited ones go on, and what has ended keeps its outcome."""
        for fence, held in list(self.known.items()):
            if held.ended is None and (held.limited or held.body is None):
                self._drop(fence, now)
            elif held.body is not None:
                held.body.lease_ended = min(self.deadline, now)
        self.old, self.id, self.settled_late = [self.id], "", False
        if self.waiting is not None:
            self.broken()

    # --- bodies

    def end(self, fence: int, how: str, now: int, why: str = "") -> None:
        """A body ends (or a delivery that never started is given back): from here on its outcome is owed."""
        held = self.known[fence]
        if held.body is not None:
            held.body.stops = now
        d, job = held.delivery, held.envelope
        held.ended = Ended(
            delivery=d,
            outcome=outcome_of(how, job, f"{d.lane}:{d.entry}", why),
            job_id=job.get("id") or f"{d.lane}:{d.entry}",
            key=f"{d.lane}:{job['key']}" if job.get("key") else "",
            moved="id" in job,
        )
