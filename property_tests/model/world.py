"""What a row of the table is: a small world, its faults, and at most a few rules that are broken on purpose."""

from __future__ import annotations

from typing import Literal

import attrs

UNLIMITED = 9
"""The limit of a lane that has none; more than any world has jobs."""


@attrs.frozen(kw_only=True)
class Broken:
    """One field per rule that a row can break. All off: the rules as built (R1 ... in ``docs/lease-model.md``)."""

    # claim
    adopt_literal: bool = False  # W1: adoption bounded by limit - used
    adopt_unbounded: bool = False  # W2: adoption not bounded by the limit
    adopt_in_quarantine: bool = False  # W3
    adopt_no_expiry: bool = False  # adopts from live members
    own_count: bool = False  # counts only the caller's entries
    used_live_only: bool = False  # used without the entries of dead members
    claim_no_live: bool = False
    claim_no_epoch: bool = False  # the script does not compare the member's epoch
    no_session: bool = False  # W5
    handback_counts: bool = False
    # settle
    no_owner: bool = False
    no_n: bool = False  # W6
    settle_no_epoch: bool = False
    ack_no_delete: bool = False
    retry_in_two: bool = False
    promote_in_two: bool = False
    release_leaks: bool = False
    # renew, confirm, mine, join
    readd: bool = False  # renew re-adds an expired member
    thread_extends: bool = False  # a renewal in a new epoch extends the lease, nothing is listed
    epoch_extends_not: bool = False  # harmless variant: EPOCH does not extend the server's side either
    no_confirm: bool = False  # everything known gets the new epoch
    no_grant_epoch: bool = False  # the worker does not compare a grant's epoch
    thread_confirms: bool = (
        False  # W7, W8: the thread confirms, while a claim's reply may be in the loop's buffer
    )
    mine_early: bool = False  # W8: mine comes before confirm
    mine_starts: bool = False  # W4
    mine_all: bool = False
    mine_lazy: bool = False
    no_mine: bool = False
    keep_no_n: bool = False  # join(keep) compares owner and entry only
    keep_no_owner: bool = False
    keep_limited: bool = False  # bodies of limited lanes go on as well
    keep_by_class: bool = False  # the server refuses to keep entries of lanes that are limited by now
    join_hands_back_all: bool = False
    join_names_first: bool = False  # after a lost join reply the worker names its first old id only
    # the worker
    from_reply: bool = False
    no_watchdog: bool = False
    late_start: bool = False
    claim_extends: bool = False
    leave_running: bool = False
    same_id: bool = False
    # the server that forgot
    no_quarantine: bool = False
    virgin: bool = False  # W9, W10, W11: no quarantine
    lower_kills: bool = False
    # a change of the TTL
    opens_at_once: bool = False  # in force before every live member has acknowledged it
    trusts_at_once: bool = False  # a worker reckons with its own larger TTL while the change is under way
    lease_not_cut: bool = False  # a shorter TTL is acknowledged while the lease still runs by the longer
    completes_at_once: bool = (
        False  # complete as soon as it is open, whatever the members were configured with
    )
    no_outlast: bool = False  # a worker that knows of a larger TTL does not prolong the quarantine
    ignores_silence: bool = False  # whoever is first at a lost clock trusts that the TTL is what it knew
    completes_early: bool = False  # complete although the change was announced less than a new lease ago
    # hungry, suspects, hint, bell
    hungry_forever: bool = False
    hungry_self: bool = False  # one's own mark caps oneself
    share_of_serving: bool = False  # shares by all that serve the lane; whoever is short is marked
    suspects_unbounded: bool = False
    hint_eager: bool = False  # the hint is taken out although the lane has a backlog (limit reached)
    no_hint: str = ""  # a script that hands back without setting the hint
    no_ring: str = ""  # a script that does not ring
    ring_own_pool: bool = False
    chain_short: bool = False  # the chain looks only at lanes that the claim came to before its room ran out
    ring_unread: bool = False  # whether to ring is decided by unread entries and used < limit alone
    full_eats: bool = False  # a full or leaving worker keeps the ring it was given
    no_pause: bool = False  # a withheld worker reads the bell again at once


@attrs.frozen(kw_only=True)
class World:
    """Size, faults and rules of one run. Times are ticks; budgets say how often something may happen in one history."""

    jobs: tuple[int, ...] = (0, 0)
    """Lane of each job."""
    preloaded: int = 99
    """How many jobs are in their streams at the start; the rest is submitted at any time."""
    limits: tuple[int, ...] = (1,)
    pools: tuple[tuple[int, ...], ...] = ()
    """Lanes served by each pool; () is one pool that serves all."""
    workers: tuple[int, ...] = (0, 0)
    """Pool of each worker."""
    consumers: int = 1
    ttl: int = 3
    to: int = 0
    """The TTL to which ``commands`` may change it, and back; 0: none do."""
    believed: int = 99
    """Most ticks of silence after which a worker thinks that the TTL may have been raised unheard (``LONGEST_LEASE``)."""
    margin: int = 1
    unwind: int = 0
    quarantine: int = -1
    """-1: the TTL."""
    limit_values: tuple[int, ...] = (0, 1, 2)
    retry: bool = False
    """Each job's body may fail once; it then waits in the delayed set."""
    max_crashes: int = 0
    """0: crashes are not counted."""
    poison: tuple[int, ...] = ()
    """Jobs whose body kills its worker."""
    keep: bool = False
    """``on_lease_loss=continue``: bodies of unlimited lanes go on past the member's deadline."""
    hungry: int = 0
    """Life of a hungry mark in ticks; 0: the rule is off."""
    hint: bool = False
    """Claims look only at lanes in ``ready``."""
    bell: int = 0
    """Most unread rings; 0: no bell, a worker claims whenever it likes."""
    poll: bool = False
    """With each tick blocked workers claim by the safety poll; rings may get lost then."""
    prompt: bool = False
    """Every live worker of the server's epoch renews in time: nothing is sent for it, and only others' leases run out."""
    crash: int = 0
    net: int = 0
    pause: int = 0
    failover: int = 0
    joins: int = 2
    limit_changes: int = 0
    leave: int = 0
    release: int = 0
    jump: int = 0
    forget: int = 0
    commands: int = 0
    under_way: bool = False
    """The change to ``to`` is open when the world begins, and was announced just then."""
    held_up: bool = True
    """By a member of before, whose worker was killed; else those of before have left."""
    left_behind: bool = False
    """One worker was cut off from before the change was announced: it knows nothing of it, and is a member no more."""
    replica_ttl: int = 0
    """There is an empty replica from before the fleet's TTL was changed from this one; 0: none."""
    forgets: Literal["everything", "members", "group"] = "everything"
    id_reuse: bool = True
    """A promoted server whose clock is behind gives a stream id out again."""
    strict: bool = False
    """A claim that grants may leave nothing above the limit of *now*."""
    broken: Broken = Broken()

    lanes: range = attrs.field(
        init=False, default=attrs.Factory(lambda w: range(len(w.limits)), takes_self=True)
    )
    bells: tuple[tuple[int, ...], ...] = attrs.field(
        init=False, default=attrs.Factory(lambda w: w.pools or (tuple(w.lanes),), takes_self=True)
    )
    """Pools, filled in."""
    off: int = attrs.field(init=False, default=attrs.Factory(lambda w: w.unwind + 1, takes_self=True))
    """Worker deadlines are stored plus this: ``<= off`` is passed, ``<= 1`` bodies must be out, 0 is stale."""
