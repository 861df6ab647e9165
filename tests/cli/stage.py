"""A fleet without workers: what members do to the keys, done step by step, so that a test can look at any moment between."""

from __future__ import annotations

import json
import secrets
from typing import Any

import attrs

from flowq._model import Dead, Delivery, Ended, LanePolicy, Submission, Want
from flowq.backends.protocol import Standing
from flowq.backends.redis import scripts
from flowq.backends.redis.fleet import pool_of
from flowq.backends.redis.keys import Keys, app_prefix
from flowq.backends.redis.url import parse_url


def policy(limit: int | None = None, max_crashes: int | None = 3) -> LanePolicy:
    return LanePolicy(limit, max_crashes, False, 86_400_000)


def envelope(task: str, *args: Any, **fields: Any) -> bytes:
    return json.dumps({"v": 1, "task": task, "args": args, **fields}).encode()


class Stage:
    """One app on a real server."""

    def __init__(self, url: str, name: str, namespace: str | None = None) -> None:
        self.url = url
        self.name = name
        self.client = parse_url(url).sync_client()
        self.keys = Keys(app_prefix(name, namespace))

    def _call(self, script: Any, args: Any) -> Any:
        return script.call_sync(self.client, [self.keys.clock], args)

    def submit(
        self, lane: str, *args: Any, delay: float = 0, key: str = "", raw: bytes | None = None, **fields: Any
    ) -> str:
        """One job; its id."""
        data = raw if raw is not None else envelope(lane, *args, **({"key": key} if key else {}), **fields)
        batch = [Submission(lane, data, delay_ms=round(delay * 1000), key=key)]
        reply = self._call(scripts.SUBMIT, scripts.submit(secrets.token_hex(8), 120_000, batch))
        return scripts.read_submit(reply, batch)[0].job_id

    def join(
        self, *, ttl: float = 30, host: str = "here", pid: int = 1, concurrency: int = 8, **lanes: LanePolicy
    ) -> Standing:
        """A new member that serves these lanes; the server counts as empty when the first one came."""
        facts = {"host": host, "pid": pid, "version": "0.1.0", "concurrency": concurrency, "backend": "trio"}
        member = secrets.token_hex(8)
        reply = self._call(
            scripts.JOIN,
            scripts.join(
                member,
                secrets.token_hex(8),
                ttl_ms=round(ttl * 1000),
                virgin_ok=True,
                old="",
                pool=pool_of(lanes),
                facts=json.dumps(facts).encode(),
                lanes=lanes,
                keep=[],
            ),
        )
        joined = scripts.read_join(reply, member, [], round(ttl * 1000))
        return Standing(member, 0, joined.epoch, 0)

    def renew(self, me: Standing, heard: str = "") -> str:
        """Extend a lease, and say which change of the lease TTL is heeded; returns what is under way."""
        reply = self._call(scripts.RENEW, scripts.renew(me, secrets.token_hex(8), 0, heard))
        return scripts.read_renew(reply).change

    def let_change_be_due(self) -> None:
        """As if a change of the lease TTL had been announced long ago: a longer one is complete no sooner than it is long."""
        self.client.hset(self.keys.clock, "due", 0)

    def claim(self, me: Standing, room: int = 8) -> list[Delivery]:
        reply = self._call(scripts.CLAIM, scripts.claim(me, Want(room=room, threads=room, extra={}), 0))
        return scripts.read_claim(reply, 0.0).grants

    def bury(
        self,
        me: Standing,
        delivery: Delivery,
        *,
        reason: str = "ValueError: no",
        kind: str = "error",
        **detail: Any,
    ) -> None:
        """The delivery ends in the dead letters."""
        found = json.loads(delivery.raw) if delivery.raw.startswith(b"{") else {}
        job_id = found.get("id") or f"{delivery.lane}:{delivery.entry}"
        key = f"{delivery.lane}:{found['key']}" if "key" in found else ""
        outcome = Dead(
            kind=kind,
            reason=reason,
            record=json.dumps({"status": "dead", "kind": kind, "message": reason}).encode(),
            ttl_ms=60_000,
            detail=json.dumps(detail).encode(),
        )
        args, _ = scripts.settle(me, [Ended(delivery, outcome, job_id, key=key)], False)
        reply = self._call(scripts.SETTLE, args)
        assert reply == [b"OK"], reply

    def leave(self, me: Standing) -> None:
        """The member ends in order; what it holds is handed back."""
        self._call(scripts.LEAVE, [me.member])

    def expire(self, me: Standing) -> None:
        """The member's lease has ended, and nobody has looked yet."""
        self.client.zadd(self.keys.members, {me.member: 0})

    def tick(self) -> None:
        """Some other caller: moves the app's clock."""
        self._call(scripts.PROMOTE, [])

    def close(self) -> None:
        if found := list(self.client.scan_iter(match=f"flowq:{{{self.name}*", count=1000)):
            self.client.unlink(*found)
        self.client.close()


@attrs.frozen
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str
