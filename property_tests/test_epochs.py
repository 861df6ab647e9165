"""An epoch that a claim begins, because it finds a group gone, is like any other: what is said of its quarantine later counts from it."""

from __future__ import annotations

from flowq._model import LanePolicy, Want
from flowq.backends.protocol import Standing
from flowq.backends.redis import lease_ttl, scripts

from .lease.server import PREFIX, Server

TTL = 10_000


def test_a_longer_lease_prolongs_the_quarantine_of_an_epoch_that_a_claim_began(each_server: Server) -> None:
    """The fleet's TTL is raised while that quarantine lasts: it lasts for the longer lease, from when the group was missed."""
    server, now = each_server, 1_700_000_000_000
    server.set_time(now)
    policy = LanePolicy(limit=1, max_crashes=3, sync=False, failure_ttl_ms=1000)
    args = scripts.join(
        member="m", nonce="n", ttl_ms=TTL, virgin_ok=True, old="", pool="p", facts=b"{}", lanes={"a": policy}, keep=()
    )  # fmt: skip
    _, state = server.run("join", args)
    me = Standing("m", 0, state.clock["ep"], 0)
    for _ in range(30):
        now += 1000
        server.set_time(now)
        server.run("renew", scripts.renew(me, "n", 0))
    server.call(("XGROUP", "DESTROY", PREFIX + "s:a", "flowq"), ("SADD", PREFIX + "ready:p", "a"))

    reply, began = server.run("claim", scripts.claim(me, Want(1, 1, {}), 0))
    assert reply[0] == b"EPOCH"
    assert began.q - began.l == TTL

    _, raised = server.run("lease_ttl", lease_ttl.arguments(3 * TTL / 1000))
    assert raised.q - raised.l == 3 * TTL
