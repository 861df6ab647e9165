"""The scripts, typed: each function builds the arguments of one, each ``read_…`` parses its reply. No I/O.

So the channel of the event loop, the plain client of the keeper's thread and of the CLI, and the tests' machine share them.
The ``.lua`` files say what each does and which rules of the lease it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from flowq._model import (
    Again,
    Cancelled,
    Claimed,
    Confirmed,
    Dead,
    Delivery,
    Ended,
    Exchanged,
    Joined,
    LanePolicy,
    Receipt,
    Refusal,
    Released,
    Renewed,
    Settled,
    Status,
    Submission,
    Succeeded,
    Want,
)
from flowq.backends.entries import entry_order
from flowq.backends.protocol import Standing
from flowq.backends.redis.keys import LAYOUT, incompatible
from flowq.backends.redis.script import Script, load_text
from flowq.backends.ttl import other_ttl

Arg = bytes | str | int
Args = list[Arg]

_LUA = Path(__file__).with_name("lua")
_loaded: list[Script] = []


def _load(name: str, *args: str) -> Script:
    script = Script(name, load_text(_LUA / f"{name}.lua"))
    if script.keys != ("clock",) or script.args != args:
        raise RuntimeError(
            f"{name}.lua binds {script.keys} {script.args}, its stub expects ('clock',) {args}"
        )
    _loaded.append(script)
    return script


HELLO = _load("hello", "nonce")
JOIN = _load(
    "join", "m", "nonce", "ttl", "layout", "virgin_ok", "old", "pool", "facts", "nlanes", "heard", "silence"
)
RENEW = _load("renew", "m", "epoch", "nonce", "running", "heard")
CONFIRM = _load("confirm", "m", "nonce")
MINE = _load("mine", "m", "session")
LEAVE = _load("leave", "m")
CLAIM = _load("claim", "m", "session", "epoch", "seen", "room", "threads", "turn", "pass_on")
SETTLE = _load("settle", "m", "epoch", "claiming")
PROMOTE = _load("promote")
SUBMIT = _load("submit", "batch", "keep")
TAKE_IN = _load("take_in", "lane", "most")
STATUS = _load("status", "id")
WAIT = _load("wait", "id", "channel")
UNWAIT = _load("unwait", "id", "channel")
CANCEL = _load("cancel", "id", "reason", "record", "ttl")
CONTROL = _load("control", "lane", "what", "value")
SURVEY = _load("survey", "m", "most")
LEASE_TTL = _load("lease_ttl", "wanted", "nonce")
NOTE = _load("note", "m", "draining")

ALL = tuple(_loaded)
"""Those above: what a connection that submits or works loads. Operators' scripts are sent when they are used."""


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


# --- membership ---------------------------------------------------------------------------------------------------------


def policy_text(p: LanePolicy) -> str:
    """The policy as it lies in ``pool:<pool>``: limit|max_crashes|sync|failure_ttl."""
    limit = "" if p.limit is None else p.limit
    crashes = "" if p.max_crashes is None else p.max_crashes
    return f"{limit}|{crashes}|{int(p.sync)}|{p.failure_ttl_ms}"


def join(
    member: str,
    nonce: str,
    *,
    ttl_ms: int,
    virgin_ok: bool,
    old: str,
    pool: str,
    facts: bytes,
    lanes: Mapping[str, LanePolicy],
    keep: Sequence[Delivery],
    heard: str = "",
    silence_ms: int = 0,
) -> Args:
    args: Args = [
        member,
        nonce,
        ttl_ms,
        LAYOUT,
        int(virgin_ok),
        old,
        pool,
        facts,
        len(lanes),
        heard,
        silence_ms,
    ]
    for lane, policy in lanes.items():
        args += (lane, policy_text(policy))
    return args + _triples(keep)


def read_join(reply: list[Any], member: str, keep: Sequence[Delivery], ttl_ms: int) -> Joined:
    """The membership. Raises ConfigurationError, TtlNotYet or IncompatibleLayout if the fleet refuses."""
    what = reply[0]
    if what in (b"TTL", b"WAIT"):
        raise other_ttl(int(reply[1]) / 1000, _text(reply[2]), ttl_ms / 1000, wait=what == b"WAIT")
    if what == b"LAYOUT":
        raise incompatible(_text(reply[1]))
    return Joined(
        member=member,
        epoch=_text(reply[1]),
        kept=[keep[int(i)].fence for i in reply[3]],
        quarantine=int(reply[2]) / 1000,
        change=_text(reply[4]),
    )


def renew(me: Standing, nonce: str, running: int, heard: str = "") -> Args:
    return [me.member, me.epoch, nonce, running, heard]


def read_renew(reply: list[Any]) -> Renewed:
    if len(reply) == 1:
        return Renewed(status=Status(_text(reply[0])), cancels=[])
    return Renewed(status=Status(_text(reply[0])), cancels=read_cancels(reply[1]), change=_text(reply[2]))


def read_cancels(flat: Sequence[Any]) -> list[tuple[str, str, str]]:
    found = []
    for where, reason in zip(flat[::2], flat[1::2], strict=True):
        lane, _, entry = _text(where).partition("|")
        found.append((lane, entry, _text(reason)))
    return found


def confirm(me: Standing, nonce: str, known: Sequence[Delivery]) -> Args:
    return [me.member, nonce, *_triples(known)]


def read_confirm(reply: list[Any], known: Sequence[Delivery]) -> Confirmed:
    if reply[0] != b"OK":
        return Confirmed(status=Status(_text(reply[0])), epoch="", fences=[])
    return Confirmed(status=Status.OK, epoch=_text(reply[1]), fences=[known[int(i)].fence for i in reply[2]])


def mine(me: Standing, known: Sequence[Delivery]) -> Args:
    return [me.member, me.session, *_triples(known)]


def _triples(deliveries: Iterable[Delivery]) -> Args:
    args: Args = []
    for d in deliveries:
        args += (d.lane, d.entry, d.n)
    return args


# --- claim and settle ---------------------------------------------------------------------------------------------------


def claim(me: Standing, want: Want, turn: int) -> Args:
    args: Args = [me.member, me.session, me.epoch, me.fence, want.room, want.threads, turn, int(want.ring)]
    for lane, extra in want.extra.items():
        args += (lane, extra)
    return args


def read_claim(reply: list[Any], now: float) -> Claimed:
    status = reply[0]
    if status != b"OK":
        return Claimed(status=Status(_text(status)), epoch=_text(reply[1]) if len(reply) > 1 else "")
    epoch = reply[1].decode()
    fence = int(reply[2])
    grants: list[Delivery] = []
    fresh, adopted = reply[8], reply[9]
    for i in range(0, len(adopted), 5):
        lane, entry, n, crashes, raw = adopted[i : i + 5]
        grants.append(Delivery(lane.decode(), entry.decode(), int(n), epoch, fence, int(crashes), raw, now))
        fence += 1
    at = 0
    while at < len(fresh):
        lane_name = fresh[at].decode()
        end = at + 2 + 2 * fresh[at + 1]
        for entry, raw in zip(fresh[at + 2 : end : 2], fresh[at + 3 : end : 2], strict=True):
            grants.append(Delivery(lane_name, entry.decode(), 1, epoch, fence, 0, raw, now))
            fence += 1
        at = end
    limits = reply[7]
    return Claimed(
        status=Status.OK,
        epoch=epoch,
        grants=grants,
        limits={limits[i].decode(): int(limits[i + 1]) for i in range(0, len(limits), 2)},
        next_due=None if reply[3] < 0 else reply[3] / 1000,
        next_expiry=None if reply[4] < 0 else reply[4] / 1000,
        quarantine=reply[5] / 1000,
        dead=int(reply[6]),
        withheld=reply[10] == 1,
    )


_KINDS: dict[type[object], str] = {
    Succeeded: "end",
    Cancelled: "end",
    Again: "again",
    Dead: "dead",
    Released: "free",
}
_BARE = frozenset({"ok", "free"})
"""Kinds of which the script needs nothing but the entry and its delivery count."""


def _kind(e: Ended) -> str:
    o = e.outcome
    if type(o) is Succeeded and o.record is None and not e.key and not e.moved:
        return "ok"
    return _KINDS[type(o)]


def settle(me: Standing, ended: Sequence[Ended], claiming: bool) -> tuple[Args, list[Ended]]:
    """The arguments, and the outcomes in the order in which the reply numbers them."""
    groups: dict[tuple[str, str], list[Ended]] = {}
    for e in ended:
        name = (_kind(e), e.delivery.lane)
        group = groups.get(name)
        if group is None:
            groups[name] = [e]
        else:
            group.append(e)
    args: Args = [me.member, me.epoch, int(claiming)]
    ordered: list[Ended] = []
    for (kind, lane), group in groups.items():
        if len(group) > 4:
            # settle asks for one range of the pending list; the loop ends bodies in no order
            group.sort(key=lambda e: entry_order(e.delivery.entry))
        args += (kind, lane, len(group), sum([e.run_ms for e in group]))
        bare = kind in _BARE
        for e in group:
            d = e.delivery
            args.append(d.entry)
            args.append(d.n)
            if not bare:
                args += _details(e)
        ordered += group
    return args, ordered


def _details(e: Ended) -> Args:
    o = e.outcome
    match o:
        case Succeeded():
            return [e.job_id, "succeeded", o.record or b"", o.ttl_ms, e.key, int(e.moved)]
        case Cancelled():
            return [e.job_id, "cancelled", o.record, o.ttl_ms, e.key, int(e.moved)]
        case Again():
            return [e.job_id, o.delay_ms, o.envelope]
        case Dead():
            return [e.job_id, o.kind, o.reason, o.record, o.ttl_ms, e.key, int(e.moved), o.detail]
        case Released():
            return []


def read_settle(reply: list[Any], ordered: Sequence[Ended]) -> Settled:
    if reply[0] != b"OK":
        return Settled(status=Status(_text(reply[0])))
    refused = [
        (ordered[int(reply[i])].delivery, Refusal(_text(reply[i + 1]))) for i in range(1, len(reply), 2)
    ]
    return Settled(status=Status.OK, refused=refused)


def read_exchange(replies: Sequence[Any], ordered: Sequence[Ended], claiming: bool, now: float) -> Exchanged:
    """The replies of a settle (if there were outcomes) and of a claim (if there was one), sent in one write."""
    settled = read_settle(replies[0], ordered) if ordered else None
    return Exchanged(settled=settled, claimed=read_claim(replies[-1], now) if claiming else None)


# --- submit -------------------------------------------------------------------------------------------------------------


def _plain(s: Submission) -> bool:
    return not (s.delay_ms or s.at_ms or s.key)


def submit(batch_id: str, keep_ms: int, batch: Sequence[Submission]) -> Args:
    args: Args = [batch_id, keep_ms]
    for (lane, plain), rows in groupby(batch, key=lambda s: (s.lane, _plain(s))):
        group = list(rows)
        args += (lane, 0 if plain else 1, len(group))
        if plain:
            args += [s.envelope for s in group]
        else:
            for s in group:
                args += (s.delay_ms, s.at_ms, s.key, s.envelope)
    return args


def take_in(lane: str, most: int, jobs: Iterable[tuple[str, bytes]]) -> Args:
    """``jobs``: (id or '', envelope)."""
    args: Args = [lane, most]
    for job in jobs:
        args += job
    return args


def read_submit(reply: list[Any], batch: Sequence[Submission]) -> list[Receipt]:
    receipts: list[Receipt] = []
    groups = groupby(batch, key=lambda s: (s.lane, _plain(s)))
    for ((lane, plain), rows), answer in zip(groups, reply, strict=True):
        if plain:
            ms, _, seq = answer.decode().partition("-")
            receipts += [Receipt(f"{lane}:{ms}-{n}", True) for n, _ in enumerate(rows, int(seq))]
        else:
            receipts += [Receipt(answer[i].decode(), answer[i + 1] == b"1") for i in range(0, len(answer), 2)]
    return receipts
