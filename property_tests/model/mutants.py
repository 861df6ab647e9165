"""Rules broken on purpose, each in the smallest world found in which it can fail: misreadings first, then mutants."""

from __future__ import annotations

from typing import Any

from property_tests.model.rows import BELL, FAIL, GOES_ON, LOWER, POISON, RAISE, SAME, T2, U, row

ONE: dict[str, Any] = {"jobs": (0,)}

MISREAD = [
    row("misread", "W1 adoption bounded by limit - used", "WORK", broken="adopt_literal", every=1, **ONE, **T2),
    row("misread", "W2 adoption not bounded by the limit (paused lane)", "ABOVE", broken="adopt_unbounded", limit_changes=1, strict=True, limit_values=(0,), **ONE, **T2),
    row("misread", "W3 adoption goes on in quarantine", "BODIES", broken="adopt_in_quarantine", **ONE, **FAIL),
    row("misread", "W4 mine's entries start in quarantine", "BODIES", broken="mine_starts", prompt=True, **FAIL),
    row("misread", "W5 a claim that outlives its connection is still obeyed", "STUCK", broken="no_session", net=1, every=1, **ONE),
    row("misread", "W6 settle fenced by (member, id) only", "P4", broken="no_n", net=1, release=1, **ONE, **T2),
    row("misread", "W7 the thread confirms, and a claim's reply of the old server starts", "BODIES", broken="thread_confirms no_grant_epoch settle_no_epoch", prompt=True, **ONE, **FAIL),
    row("misread", "W8 the thread confirms, and mine comes before", "STUCK", broken="thread_confirms mine_early", prompt=True, **ONE, **FAIL),
    row("misread", "W9 virgin queue: no quarantine for a first caller", "BODIES", broken="virgin", forget=1, **ONE, **T2),
    row("misread", "W10 NOGROUP: create and go on", "BODIES", broken="virgin", forget=1, forgets="group", **ONE, **T2),
    row("misread", "W11 members zset gone: adopt all", "BODIES", broken="virgin", forget=1, forgets="members", **ONE, **T2),
]  # fmt: skip

MUTANTS = [
    row("mutant", "no owner check in settle", "P4", broken="no_owner", net=1, release=1, **ONE, **T2),
    row("mutant", "claim counts only its own pending", "TOKENS", broken="own_count"),
    row("mutant", "used without the entries of dead members", "TOKENS", broken="used_live_only", consumers=2, **T2),
    row("mutant", "adoption without expiry check", "TWICE", broken="adopt_no_expiry", limits=(2,), **ONE),
    row("mutant", "deadline from the reply's arrival", "BODIES", broken="from_reply", **ONE),
    row("mutant", "claim reply extends the local deadline", "BODIES", broken="claim_extends", **ONE),
    row("mutant", "late claim reply starts bodies", "BACK", broken="late_start", **ONE),
    row("mutant", "no watchdog", "BODIES", broken="no_watchdog", **ONE),
    row("mutant", "no mine", "STUCK", broken="no_mine", net=1, every=1, **ONE),
    row("mutant", "mine only if a claim was in flight", "STUCK", broken="mine_lazy", workers=(0,), joins=1, **FAIL),
    row("mutant", "mine hands back what runs", "BACK", broken="mine_all", net=1, consumers=2, limits=(2,), **T2),
    row("mutant", "no quarantine", "BODIES", broken="no_quarantine", prompt=True, **ONE, **FAIL),
    row("mutant", "quarantine, but bodies not confirmed", "BODIES", broken="no_confirm", prompt=True, **ONE, **FAIL),
    row("mutant", "the thread's renewal extends in a new epoch", "BODIES", broken="thread_extends", prompt=True, **ONE, **FAIL),
    row("mutant", "lowering the limit takes tokens away", "BACK", broken="lower_kills", limit_changes=1, limits=(2,), limit_values=(1,), **T2),
    row("mutant", "member id re-used after SIGKILL", "STUCK", broken="same_id", crash=1, joins=3, every=1, **ONE),
    row("mutant", "XACK without XDEL", "STUCK", broken="ack_no_delete", every=1, **ONE),
    row("mutant", "leave while bodies run", "BACK", broken="leave_running", leave=1, **ONE, **T2),
    row("mutant", "retry in two steps", "LOSS", broken="retry_in_two", retry=True, **ONE, **T2),
    row("mutant", "promote in two steps", "PLACES", broken="promote_in_two", retry=True, every=999, **ONE, **T2),
    row("mutant", "hand-back counted as a crash", "COUNTED", broken="handback_counts", leave=1, max_crashes=3, every=999, **ONE, **T2),
    row("mutant", "release acks without handing back", "LOSS", broken="release_leaks", release=1, **ONE, **T2),
    row("mutant", "no epoch in claim, and none compared by the worker", "TWICE", broken="claim_no_epoch no_grant_epoch", workers=(0,), joins=1, consumers=2, limits=(U,), forget=1, forgets="group", **ONE, **T2),
    row("mutant", "join(keep) without n", "STUCK", broken="keep_no_n", net=1, release=1, joins=3, **ONE, **GOES_ON),
    row("mutant", "join(keep) without owner", "STUCK", broken="keep_no_owner", joins=3, **ONE, **GOES_ON),
    row("mutant", "bodies of a limited lane go on", "BODIES", broken="keep_limited", keep=True, joins=3, **ONE, **T2),
    row("mutant", "join(keep) refuses lanes that got a limit", "DROPPED", broken="keep_by_class", limit_changes=1, limit_values=(1,), joins=3, **ONE, **GOES_ON),
    row("mutant", "rejoin hands back all while bodies run", "DROPPED", broken="join_hands_back_all", **ONE, **GOES_ON),
    row("mutant", "a lost join reply: the first old id only is named", "DROPPED", broken="join_names_first", net=1, joins=3, **ONE, **GOES_ON),
    row("mutant", "hungry marks never end", "WITHHELD", broken="hungry_forever", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), prompt=True),
    row("mutant", "one's own mark caps oneself", "WORK", broken="hungry_self", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0, 0), prompt=True),
    row("mutant", "shares by all that serve the lane", "WORK", broken="share_of_serving", hungry=2, limits=(3,), consumers=2, workers=(0, 0, 0), jobs=(0, 0, 0, 0), prompt=True, joins=3),
    row("mutant", "suspects travel together", "INNOCENT", broken="suspects_unbounded", max_crashes=2, poison=(0,), limits=(2,), consumers=2, **POISON),
    row("mutant", "hint taken out at the limit", "WORK", broken="hint_eager", hint=True, every=1, **T2),
    row("mutant", "leave sets no hint", "WORK", broken="no_hint=leave", hint=True, leave=1, joins=3, **ONE, **T2),
    row("mutant", "mine sets no hint", "WORK", broken="no_hint=mine", hint=True, net=1, **ONE, **T2),
    row("mutant", "release sets no hint", "WORK", broken="no_hint=release", hint=True, release=1, **ONE, **T2),
    row("mutant", "expiry sets no hint", "WORK", broken="no_hint=expiry", hint=True, crash=1, **ONE, **T2),
    row("mutant", "promote sets no hint", "WORK", broken="no_hint=promote", hint=True, retry=True, **ONE, **T2),
    row("mutant", "forgetting sets no hint", "WORK", broken="no_hint=forgot", hint=True, forget=1, forgets="group", **ONE, **T2),
    row("mutant", "submit sets no hint", "WORK", broken="no_hint=submit", hint=True, preloaded=0, **ONE, **T2),
    row("mutant", "join sets no hint", "WORK", broken="no_hint=join", hint=True, **ONE, **T2),
    row("mutant", "submit does not ring", "RING", broken="no_ring=submit", every=999, **ONE, **BELL),
    row("mutant", "a settle without its own claim does not ring", "RING", broken="no_ring=settle", leave=1, every=999, **BELL),
    row("mutant", "leave does not ring", "RING", broken="no_ring=leave", leave=1, **ONE, **BELL),
    row("mutant", "raising a limit does not ring", "RING", broken="no_ring=limit", limit_changes=1, limits=(0,), **ONE, **BELL),
    row("mutant", "promote does not ring", "RING", broken="no_ring=promote", retry=True, every=9999, **ONE, **BELL),
    row("mutant", "rings are for unread entries only", "RING", broken="ring_unread", limits=(3,), consumers=2, workers=(0, 0, 0), jobs=(0, 0, 0), leave=1, joins=3, prompt=True, bell=1, every=99),
    row("mutant", "a claim does not ring on", "RING", broken="no_ring=chain", limits=(2,), **BELL),
    row("mutant", "the chain looks only at lanes the claim came to", "RING", broken="chain_short", limits=(1, 1), jobs=(0, 1), **BELL),
    row("mutant", "a write rings its own pool only", "RING", broken="ring_own_pool", limits=(1, 1), jobs=(0, 1, 1), pools=((0, 1), (1,)), workers=(0, 1), **BELL),
    row("mutant", "a leaving worker keeps a ring", "RING", broken="full_eats", leave=1, **ONE, **BELL),
    row("mutant", "a full worker keeps a ring", "RING", broken="full_eats", limits=(4,), consumers=2, jobs=(0, 0, 0, 0), every=99, **BELL),
    row("mutant", "a withheld worker reads the bell again at once", "SPIN", broken="no_pause", hungry=2, limits=(2,), consumers=2, jobs=(0, 0, 0), crash=1, poll=True, prompt=True, bell=1),
    row("mutant", "a shorter TTL is in force before all have acknowledged it", "BODIES", every=9999, broken="opens_at_once completes_at_once", **LOWER),
    row("mutant", "workers with a shorter TTL join before all have acknowledged it", "BODIES", every=9999, broken="opens_at_once", slow=True, forget=1, **{**LOWER, "joins": 2}),
    row("mutant", "a shorter TTL is acknowledged and the lease runs on", "BODIES", every=9999, broken="lease_not_cut", slow=True, forget=1, **{**LOWER, "joins": 2}),
    row("mutant", "a longer TTL is trusted while some have the shorter one", "BODIES", every=9999, broken="trusts_at_once", slow=True, forget=1, under_way=True, **{**RAISE, "commands": 0, "joins": 2}),
    row("mutant", "who knows of a longer TTL does not prolong the quarantine", "BODIES", every=9999, broken="no_outlast", failover=1, replica_ttl=2, **{**LOWER, "commands": 0}),
]  # fmt: skip

EQUIVALENT = [
    row("equivalent", "renew re-adds an expired member", SAME, broken="readd", pause=1, **ONE),
    row("equivalent", "claim without liveness check", SAME, broken="claim_no_live", pause=1, **ONE),
    row("equivalent", "settle of an older epoch accepted", SAME, broken="settle_no_epoch", forget=1, forgets="group", **ONE, **T2),
    row("equivalent", "claim without epoch, the worker compares", SAME, broken="claim_no_epoch", workers=(0,), joins=1, consumers=2, limits=(U,), forget=1, forgets="group", **ONE, **T2),
    row("equivalent", "the thread confirms (listing beside an exchange)", SAME, broken="thread_confirms", **ONE, **FAIL),
    row("equivalent", "mine before confirm, both in the loop", SAME, broken="mine_early", **ONE, **FAIL),
    row("equivalent", "EPOCH does not extend the server's side", SAME, broken="epoch_extends_not", **ONE, **FAIL),
    row("equivalent", "mine does not ring", SAME, broken="no_ring=mine", net=1, limits=(2,), consumers=2, **BELL),
    row("equivalent", "join does not ring", SAME, broken="no_ring=join", preloaded=0, bell=1, **ONE, **T2),
]  # fmt: skip
"""Nothing shows in these worlds: the rule is defence in depth, or another rule does its work."""
