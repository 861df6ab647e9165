"""What a change of the lease TTL costs a renewal (R3: O(1), whatever is under way)."""

from __future__ import annotations

import re

from flowq._model import LanePolicy
from flowq.backends.protocol import Standing
from flowq.backends.redis import lease_ttl, scripts

from .lease.server import Server

NOW = 1_700_000_000_000
MEMBERS = 30
WALKS = 8
"""At most, over all renewals of one round: the command's, one when the member that is waited for renews, and a few by chance."""


def walks(server: Server) -> int:
    """How often the members were gone through so far."""
    said = server.call(("INFO", "commandstats"))[0]
    found = re.search(rb"cmdstat_zrangebyscore:calls=(\d+)", said)
    return int(found[1]) if found else 0


def test_members_that_acknowledge_in_turn_do_not_walk_over_the_others(each_server: Server) -> None:
    """Each of thirty members renews twice, hears of the change and says so: the members are gone through a few times, not sixty."""
    server = each_server
    server.set_time(NOW)
    policy = LanePolicy(limit=1, max_crashes=3, sync=False, failure_ttl_ms=1000)
    epoch = ""
    for k in range(MEMBERS):
        server.set_time(NOW + k)
        args = scripts.join(
            member=f"m{k}", nonce="n", ttl_ms=10_000, virgin_ok=True, old="", pool="p", facts=b"{}", lanes={"a": policy}, keep=()
        )  # fmt: skip
        _, state = server.run("join", args)
        epoch = state.clock["ep"]
    server.run("lease_ttl", lease_ttl.arguments(30.0))
    change = server.look().clock["change"]

    before = walks(server)
    for told in ("", change):
        for k in range(MEMBERS):
            server.set_time(NOW + 1000 + k + (500 if told else 0))
            reply, state = server.run("renew", scripts.renew(Standing(f"m{k}", 0, epoch, 0), "n", 0, told))
            assert scripts.read_renew(reply).change == change
    assert walks(server) - before <= WALKS
    assert "open" in state.clock
