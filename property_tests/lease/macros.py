"""Conjunctions that chance does not find, as rules: sequences of operations in a fixed order with drawn gaps."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from .body import SHORT_TTL, TTL
from .driver import HOW, LANE, SLOT, Driver
from .world import Op


class Macros(Driver):
    """Rules for rare conjunctions (RELIABILITY 2.10)."""

    @rule(i=SLOT, j=SLOT, first=st.sampled_from(["", "renew", "exchange"]), limbo=st.booleans())
    def paused_past_its_lease(self, i: int, j: int, first: str, limbo: bool) -> None:
        self.fresh(i)
        if limbo:
            self.do("turn", i, "limbo")
        self.all_of([("pause", i), ("tick", 12_000)])
        if j != i:
            self.fresh(j)
        self.all_of([("resume", i, first), ("limbo",), ("turn", i), ("deliver", i)])

    @rule(lanes=st.lists(LANE, min_size=1, max_size=2), times=st.integers(2, 3), n=st.sampled_from([2, 2, 5]))
    def poison(self, lanes: list[str], times: int, n: int) -> None:
        """Whoever takes it dies."""
        for lane in lanes:
            self.do("submit", lane, n)
        for _ in range(times):
            self.fresh(0)
            self.all_of([("crash", 0), ("crash", 2), ("tick", 6000), ("turn", 1), ("tick", 6000)])

    @rule(
        i=SLOT,
        j=SLOT,
        gap=st.sampled_from([0, 3000, 6000]),
        how=HOW,
        late=st.booleans(),
        n=st.integers(1, 2),
        between=st.sampled_from([0, 6000, 12_000]),
        loss=st.sampled_from([("failover",), ("failover",), ("failover", True), ("recover",)]),
    )
    def failover_while_running(
        self, i: int, j: int, gap: int, how: str, late: bool, n: int, between: int, loss: Op
    ) -> None:
        """The server is where it was: an older lease, or older owners; perhaps twice, the second time after a quarantine."""
        self.all_of([("turn", j), ("snap",), ("end", j, 0, how), ("turn", j), ("tick", gap)])
        self.do("turn", i, "late" if late else "ok")
        for _ in range(n):
            self.do(*loss)
            self.do("deliver", i)
            self.fresh(j, i)
            self.do("tick", between)
            self.fresh(i)
        self.all_of([("tick", 6000 if n == 1 else 12_000), ("turn", j)])

    @rule(
        i=SLOT, j=SLOT, loss=st.sampled_from(["members", "clock", "destroy", "flush", "restart"]), lane=LANE
    )
    def loss_while_running(self, i: int, j: int, loss: str, lane: str) -> None:
        self.fresh(i)
        self.do(
            *{"destroy": ("destroy", lane), "flush": ("flush",), "restart": ("restart",)}.get(
                loss, ("lose", loss)
            )
        )
        self.do("submit", lane, 3)
        self.fresh(j)

    @rule(
        i=SLOT,
        j=SLOT,
        loss=st.sampled_from(["failover", "failover", "members", "destroy"]),
        lane=LANE,
        ms=st.sampled_from([5600, 12_000]),
    )
    def loop_is_blocked(self, i: int, j: int, loss: str, lane: str, ms: int) -> None:
        """The server forgets while a worker's loop waits for a reply and its keeper goes on; for more or less than a lease."""
        self.all_of([("turn", i), ("turn", j), ("turn", i), ("turn", j), ("submit", lane, 1), ("snap",)])
        self.all_of([("turn", i), ("turn", i, "late")])
        self.do(*{"destroy": ("destroy", lane), "failover": ("failover",)}.get(loss, ("lose", loss)))
        self.fresh(j)
        self.do("tick", ms)
        self.fresh(j)
        self.do("deliver", i)

    @rule(i=SLOT, j=SLOT, loss=st.sampled_from(["", "", "failover", "restart", "destroy"]), lane=LANE)
    def reply_outlives_its_connection(self, i: int, j: int, loss: str, lane: str) -> None:
        """A claim's reply lies in the buffer of a connection that its worker has given up."""
        self.fresh(i, j)
        self.all_of([("submit", lane, 1), ("snap",), ("turn", i, "late")])
        if loss:
            self.do(*{"destroy": ("destroy", lane)}.get(loss, (loss,)))
        self.do("give_up", i)
        self.fresh(i)
        self.all_of([("deliver", i), ("tick", 12_000)])
        self.fresh(j)

    @rule(i=SLOT, n=st.integers(0, 2), lane=LANE)
    def claim_outlives_its_connection(self, i: int, n: int, lane: str) -> None:
        self.all_of([("submit", lane, 2), ("turn", i, "limbo")])
        for _ in range(n + 1):
            self.do("turn", i)
        self.all_of([("limbo",), ("quiet",)])

    @rule(i=SLOT, j=SLOT, lane=LANE)
    def mine_outlives_its_connection(self, i: int, j: int, lane: str) -> None:
        """What it lists is old when it arrives."""
        self.fresh(i)
        self.all_of([("turn", i, "lost_reply"), ("turn", i), ("turn", i, "limbo"), ("submit", lane, 1)])
        self.fresh(i)
        self.do("limbo")
        self.fresh(j)

    @rule(i=SLOT, k=st.integers(0, 2), fate=st.sampled_from(["lost_reply", "lost_between", "limbo", "late"]))
    def released_and_taken_again(self, i: int, k: int, fate: str) -> None:
        """The resend of a release must not hit the delivery that came after it."""
        self.all_of(
            [
                ("end", i, k, "free"),
                ("turn", i, fate),
                ("turn", i),
                ("deliver", i),
                ("turn", i),
                ("turn", i),
                ("limbo",),
            ]
        )

    @rule(i=SLOT, ms=st.sampled_from([3_600_000, 300, -3_600_000]), gap=st.sampled_from([0, 4000]))
    def clock_jumps_while_running(self, i: int, ms: int, gap: int) -> None:
        if ms < 0:
            self.do("submit", "u", 1, 700)
        self.all_of([("turn", i), ("cut", i), ("tick", gap), ("clock", ms), ("tick", 800)])
        self.fresh((i + 1) % 3)
        self.all_of([("tick", 4000), ("turn", (i + 1) % 3), ("heal", i)])

    @rule(
        ms=st.sampled_from([SHORT_TTL, SHORT_TTL, TTL]),
        deployed=st.integers(0, 3),
        gap=st.sampled_from([0, 900, 2500]),
        loss=st.sampled_from(["", "", "", "failover", "flush", "clock"]),
        i=SLOT,
        lane=LANE,
    )
    def lease_is_changed(self, ms: int, deployed: int, gap: int, loss: str, i: int, lane: str) -> None:
        """The command, some or all workers started anew, perhaps a loss or a partition in the middle."""
        self.all_of([("snap",), ("lease_ttl", ms), ("tick", gap)])
        self.do("submit", lane, 2)
        self.fresh(i)
        for k in range(deployed):
            self.all_of([("tick", 2500), ("end_all", k, "ok"), ("turn", k), ("crash", k)])
            self.fresh(k)
            if k == 0 and loss:
                self.do("cut", i)
                self.do(*{"clock": ("lose", "clock")}.get(loss, (loss,)))
        self.all_of([("tick", 6000), ("heal", i)])

    @rule(i=SLOT, lane=LANE, n=st.integers(0, 2))
    def limit_is_lowered_and_holder_dies(self, i: int, lane: str, n: int) -> None:
        self.fresh(i)
        self.all_of([("control", lane, "limit", n), ("cut", i), ("tick", 12_000)])
        self.fresh((i + 1) % 3)
        self.all_of([("heal", i), ("turn", i)])

    @rule(i=SLOT, ms=st.sampled_from([3000, 6400]), back=st.booleans())
    def renewal_is_late(self, i: int, ms: int, back: bool) -> None:
        """Its reply takes nearly a lease; then the worker is alone."""
        self.fresh(i)
        self.all_of([("renew", i, "late"), ("cut", i), ("tick", ms), ("renewed",), ("tick", 4800)])
        self.fresh((i + 1) % 3)
        self.all_of([("tick", 2400), ("heal", i)] if back else [("turn", i)])

    @rule(i=SLOT, j=SLOT, die=st.booleans())
    def hunger(self, i: int, j: int, die: bool) -> None:
        """One takes all, another comes up short, and may die of it."""
        self.do("submit", "a", 4)
        self.fresh(i)
        self.fresh(j)
        if die:
            self.do("crash", j)
        self.all_of(
            [("end", i, 0, "ok"), ("tick", 1600 if die else 0), ("turn", i), ("end", i, 0, "ok"), ("turn", i)]
        )

    @rule(i=SLOT, limit=st.integers(1, 4), others=st.integers(0, 6), n=st.integers(2, 6), end=st.booleans())
    def tokens_are_shared(self, i: int, limit: int, others: int, n: int, end: bool) -> None:
        """One is busy with other lanes, two want more of one lane than there is: no token may be idle for fairness' sake."""
        self.do("control", "a", "limit", limit)
        if others:
            self.do("submit", "u", others)
        self.fresh(i)
        self.do("submit", "a", n)
        self.fresh((i + 1) % 3, (i + 2) % 3)
        if end:
            self.do("end", self.busy(i + 1), 0, "ok")
        self.do("quiet")
        self.do("rounds")

    @rule(
        i=SLOT,
        how=HOW,
        loss=st.sampled_from(["destroy", "destroy", "members", "clock", "failover", "restart"]),
        delay=st.booleans(),
        polls=st.booleans(),
    )
    def loss_is_met_by_a_settle(self, i: int, how: str, loss: str, delay: bool, polls: bool) -> None:
        """The first to hear of it is a body's end, perhaps of many; nothing new is submitted."""
        if delay:
            self.do("submit", "u", 1, 700)
        if polls:
            # all work, and have nothing else to do: then no hint is left that would find the loss by chance
            self.all_of([(what, k) for what in ("heal", "resume") for k in range(3)])
            self.all_of([("end_all", k, "ok") for k in range(3)])
            self.all_of([("control", "u", "reset"), ("control", "u", "resume")])
        self.do("submit", "u", 5)
        self.fresh(i)
        if polls:
            self.do("rounds")
        self.do(
            *{"destroy": ("destroy", "u"), "restart": ("restart",), "failover": ("failover",)}.get(
                loss, ("lose", loss)
            )
        )
        for k in (i, (i + 1) % 3, (i + 2) % 3):
            self.do("end_all", k, how)
            self.do("turn", k)
        self.fresh(i)
        self.do("rounds")

    @rule(i=SLOT, k=st.integers(0, 3), then=st.sampled_from(["ok", "retry", "free", "crash", ""]))
    def cancelled_while_it_ends(self, i: int, k: int, then: str) -> None:
        """A job is cancelled in any of its states; its body may end before it hears of it."""
        self.do("cancel", k)
        i = self.busy(i)
        if then == "crash":
            self.all_of([("crash", i), ("tick", 12_000)])
        elif then:
            self.all_of([("end_all", i, then), ("turn", i)])
        else:
            self.do("renew", i)
        self.fresh(i)

    # a name more is a chance more: these alone meet an entry that has gone on to somebody else
    paused_past_its_lease_2, released_and_taken_again_2 = paused_past_its_lease, released_and_taken_again
