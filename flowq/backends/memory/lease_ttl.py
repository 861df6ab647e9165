"""The lease TTL of a running fleet, and how it is changed: announced, open, complete. Rules: docs/lease-model.md, R18."""

from __future__ import annotations

import attrs

from flowq._fleet import TtlChange, ttl_change
from flowq.backends.memory.state import State
from flowq.backends.ttl import busy, no_fleet, other_ttl

LONGEST_LEASE_MS = 60_000
"""To more nobody is thought to have raised it unheard; limited tasks wait no longer than that."""


@attrs.frozen
class Said:
    """What a worker that joins says of the lease TTL, in ms: see ``Fleet.join``."""

    ttl_ms: int
    heard: str = ""
    silence_ms: int = 0


def advance(state: State) -> None:
    """Open it once every live member heeds it; complete it once all of them were started with the new value.

    A longer one no sooner than it is long: who was not told of it has been silent for as long.
    """
    members = state.live_members()
    if not state.change or not members:  # who joins next may still have the old value
        return
    state.change_open = all(member.heard == state.change for member in members)
    _, to = _both(state.change)
    due = state.clock.lease >= state.change_due
    if state.change_open and due and all(member.ttl_ms == to for member in members):
        state.ttl_ms, state.change, state.change_open = to, "", False


def found(state: State, said: Said) -> None:
    """Whoever joins first says what it knows: after a loss of everything, the quarantine must outlast the longest lease."""
    state.founded = True
    state.ttl_ms = max(said.ttl_ms, *_both(said.heard))
    if state.epoch_began is not None:
        state.epoch_began = state.clock.lease
        longest = max(state.ttl_ms, min(said.silence_ms, LONGEST_LEASE_MS))
        state.quarantine_end = state.clock.lease + longest


def admit(state: State, said: Said, old: str | None, nonce: str) -> None:
    """May a worker that was started with this TTL join?

    Raises:
        OtherTtl: the live fleet has another. TtlNotYet: it is being changed to this one, but is not open.
    """
    ttl_ms, heard = said.ttl_ms, said.heard
    if not state.founded:
        found(state, said)
        if heard:
            begin(state, *_both(heard), nonce)
        return
    advance(state)
    before, to = _both(state.change)
    if ttl_ms == (before if state.change else state.ttl_ms):
        return
    alone = all(member.name == old for member in state.live_members())
    wanted = bool(state.change) and ttl_ms == to
    if wanted and (state.change_open or alone):
        return
    if not state.change and _as_member(heard) and {ttl_ms, state.ttl_ms} == set(_both(heard)):
        begin(state, *_both(heard), nonce)  # the server forgot it, or has completed it without this worker
        outlast(state, state.ttl_ms)
        return
    if not alone:
        raise other_ttl(state.ttl_ms / 1000, state.change, ttl_ms / 1000, wait=wanted)
    outlast(state, max(ttl_ms, *_both(heard)))
    state.ttl_ms, state.change, state.change_open = ttl_ms, "", False


def begin(state: State, before: int, to: int, nonce: str) -> None:
    """Announce it. A larger value holds at once, also for the leases that run: the step of the clock grows with it."""
    state.change, state.change_open = f"{before} {to} {nonce}", False
    state.change_due = state.clock.lease + to if to > before else 0
    if max(before, to) > state.ttl_ms:
        state.ttl_ms = max(before, to)
        for member in state.live_members():
            member.expiry = state.clock.lease + state.ttl_ms


def outlast(state: State, ttl_ms: int) -> None:
    """Some member may hold a lease of this length: the quarantine with which this epoch began must have been as long."""
    if state.epoch_began is not None:
        state.quarantine_end = max(state.quarantine_end, state.epoch_began + ttl_ms)


def change_ttl(state: State, wanted: int, nonce: str) -> TtlChange:
    """Begin a change, take one back, or tell how far it is."""
    if not state.founded:
        raise no_fleet()
    before, to = _both(state.change)
    if state.change and wanted not in (before, to):
        raise busy(before / 1000, to / 1000)
    if state.change and wanted == before:
        begin(state, to, before, nonce)
    elif not state.change and wanted != state.ttl_ms:
        if state.quarantine_ms:
            outlast(state, wanted)
        begin(state, state.ttl_ms, wanted, nonce)
    advance(state)
    members = state.live_members()
    return TtlChange(
        ttl=state.ttl_ms / 1000,
        to=wanted / 1000,
        under_way=bool(state.change),
        is_open=state.change_open,
        live=len(members),
        heeding=sum(member.heard == state.change for member in members),
        configured=sum(member.ttl_ms == wanted for member in members),
    )


def _as_member(heard: str) -> bool:
    return bool(heard) and not heard.startswith("?")


def _both(change: str) -> tuple[int, int]:
    """From and to in ms; two zeros: there is no change."""
    both = ttl_change(change)
    return (0, 0) if both is None else (round(both[0] * 1000), round(both[1] * 1000))
