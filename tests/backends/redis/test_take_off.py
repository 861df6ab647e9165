"""The end of settled entries: those below the first pending one go in one walk, and exactly those that were named go."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from flowq.backends.redis import scripts
from flowq.backends.redis.script import Script, load_text

from .conftest import Server

LUA = Path(scripts.__file__).with_name("lua")
TAKE_OFF = Script(
    "take-off",
    "#!lua flags=allow-oom\nlocal clock = KEYS[1]  -- <prefix>clock\nlocal lane = ARGV[1]   -- str\nlocal rest = 2         -- ARGV[2..]: ids\n"
    + "\n".join(load_text(LUA / f"{name}.lua") for name in ("clock", "bell", "finish"))
    + "\nlocal ids = {}\nfor i = rest, #ARGV do ids[#ids + 1] = ARGV[i] end\nremove(lane, ids)\n",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 7, 100])), min_size=8, max_size=30),
    delivered=st.integers(5, 30),
    groups=st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=30, max_size=30),
)
def test_exactly_the_named_go(
    server: Server, key: str, steps: list[tuple[int, int]], delivered: int, groups: list[int]
) -> None:
    """Settled in any order and in any portions, within a millisecond (9 comes before 10) or over many: the others stay, pending or waiting."""
    client = server.client()
    stream = f"flowq:{{{key}}}:s:lane"
    client.delete(stream)
    client.xgroup_create(stream, "flowq", "0", mkstream=True)
    ms, seq, entries = 1_790_000_000_000, 0, []
    for later, apart in steps:
        ms, seq = (ms + later, 0) if later else (ms, seq + apart)
        entries.append(str(client.xadd(stream, {"d": "x"}, id=f"{ms}-{seq}")))

    client.xreadgroup("flowq", "m", {stream: ">"}, count=delivered)
    taken = list(zip(entries[:delivered], groups, strict=False))
    left = list(entries)

    for group in range(2):
        ids = [entry for entry, its in taken if its == group]
        if not ids:
            continue
        TAKE_OFF.call_sync(server.address.sync_client(), [f"flowq:{{{key}}}:clock"], ["lane", *ids])
        left = [entry for entry in left if entry not in ids]

        assert [entry for entry, _ in client.xrange(stream)] == left

    pending = {row["message_id"] for row in client.xpending_range(stream, "flowq", "-", "+", 100)}
    assert pending == {entry for entry, its in taken if its == 2}
