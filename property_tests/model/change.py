"""A change of the lease TTL under a running fleet (R18): announced, open, complete; each one step of the server."""

from __future__ import annotations

from typing import NamedTuple

from property_tests.model.state import Change, Member, Server, Worker
from property_tests.model.world import World

GRANTED, WAIT, REFUSED = "granted", "wait", "refused"


class Admission(NamedTuple):
    answer: str
    server: Server


def trusted(c: World, w: Worker) -> int:
    """The TTL by which a worker reckons its own deadline: the one it was configured with, and during a change the smaller."""
    ttl = w.ttl or c.ttl
    return min(ttl, *w.change[:2]) if w.change and not c.broken.trusts_at_once else ttl


def deadline(c: World, w: Worker) -> int:
    """The deadline that a lease extended now would give."""
    return trusted(c, w) - c.margin + c.off


def heeded(c: World, w: Worker, change: Change) -> Worker:
    """The worker is told what is under way; a shorter TTL holds for the running lease, before the next renewal says so."""
    if change == w.change:
        return w
    w = w._replace(change=change)
    return w if c.broken.lease_not_cut else w._replace(deadline=min(w.deadline, deadline(c, w)))


def is_unsaid(s: Server, w: Worker) -> bool:
    """The server does not know yet what this worker heeds."""
    return any(x.id == w.member and x.heard != w.change for x in s.members)


def largest(w: Worker, ttl: int) -> int:
    """The largest TTL that a worker knows some member of its fleet may hold."""
    return max(ttl, *w.change[:2]) if w.change else ttl


def longest(c: World, w: Worker, ttl: int) -> int:
    """The longest lease that may run, for all that a worker knows: while it was told nothing the TTL may have been changed."""
    return largest(w, ttl) if c.broken.ignores_silence else max(largest(w, ttl), min(w.silent, c.believed))


def lifted(members: tuple[Member, ...], ttl: int) -> tuple[Member, ...]:
    return tuple(sorted(x._replace(left=max(x.left, ttl)) for x in members))


def advance(c: World, s: Server) -> Server:
    """Open once every live member has told that it heeds the change; complete once all were configured with the new value.

    A longer one no sooner than it is long after it was announced: who was not told of it has been silent for as long.
    """
    if (
        not s.change or not s.members
    ):  # of nobody nothing can be said: who joins next may still have the old value
        return s
    to = s.change[1]
    if not s.open:
        if any(x.heard != s.change for x in s.members) and not c.broken.opens_at_once:
            return s
        s = s._replace(open=True)
    early = c.broken.completes_early
    if (all(x.ttl == to for x in s.members) and (not s.due or early)) or c.broken.completes_at_once:
        s = s._replace(ttl=to, change=(), open=False, due=0)
    return s


def begun(c: World, s: Server, change: Change) -> Server:
    """The server's side uses the larger value from here on, also for the leases that it has given."""
    ttl = max(change[:2])
    s = s._replace(change=change, open=False, due=change[1] if change[1] > change[0] else 0)
    return s._replace(ttl=ttl, members=lifted(s.members, ttl)) if ttl > s.ttl else s


def command(c: World, s: Server, to: int, nonce: int) -> Server | None:
    """``flowq limits --lease-ttl``; None: refused, or nothing to do. A change under way can be taken back."""
    if not s.ttl or (to != s.change[0] if s.change else to == s.ttl):
        return None
    if s.change:
        return advance(c, begun(c, s, (s.change[1], to, nonce)))
    s = begun(c, s, (s.ttl, to, nonce))
    if s.quarantine:
        s = outlast(c, s, to)
    return advance(c, s)


def outlast(c: World, s: Server, ttl: int) -> Server:
    """The quarantine that this epoch began with must be at least so long."""
    return s if c.broken.no_outlast else s._replace(quarantine=max(s.quarantine, ttl - s.since))


def admit(c: World, s: Server, w: Worker, ttl: int, nonce: int) -> Admission:
    """May a worker that was configured with ``ttl`` join? The server as it is then, the member not yet in it."""
    both = w.change[:2]
    if not s.ttl:  # the clock is lost: whoever is first says what it knows
        most = 0 if c.broken.no_quarantine else longest(c, w, ttl)
        s = s._replace(ttl=largest(w, ttl), quarantine=most, since=0)
        return Admission(GRANTED, begun(c, s, (*both, nonce)) if ttl in both else s)
    s = advance(c, s)
    alone = all(x.id in w.old for x in s.members)
    if s.change:
        if ttl == s.change[0] or (ttl == s.change[1] and (s.open or alone)):
            return Admission(GRANTED, s)
        return Admission(WAIT if ttl == s.change[1] else REFUSED, s)
    if ttl == s.ttl:
        return Admission(GRANTED, s)
    if both and {ttl, s.ttl} == set(both):  # it was told, and the server forgot, or has gone on without it
        return Admission(GRANTED, outlast(c, begun(c, s, (*both, nonce)), max(both)))
    if alone:
        return Admission(GRANTED, outlast(c, s, largest(w, ttl))._replace(ttl=ttl))
    return Admission(REFUSED, s)


def deployed(before: Server, after: Server, may: tuple[int, ...]) -> tuple[int, ...]:
    """What the operator may have started by now: the new value once the change is open, the old one until it is complete."""
    if after.open and not before.open:
        return tuple(sorted({*may, after.change[1]}))
    if before.change and not after.change and after.ttl == before.change[1]:
        return (after.ttl,)
    return may
