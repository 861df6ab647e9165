"""What the traps look for is what flowq sends; and what the killer reads while the logs grow."""

from __future__ import annotations

import functools
from pathlib import Path

import hiredis
import pytest
import trio

from flowq._model import Delivery, Ended, Outcome, Released, Succeeded
from flowq.backends.protocol import Standing
from flowq.backends.redis import scripts
from tests.stress import wire
from tests.stress.logbook import Follow, gained


def settle(*ended: tuple[str, str, Outcome]) -> bytes:
    """A settle of these outcomes (lane, entry, outcome) as it goes over the wire."""
    told = [
        Ended(Delivery(lane=lane, entry=entry, n=1, epoch="e", fence=7, crashes=0, raw=b""), outcome, f"{lane}:{entry}", run_ms=500)
        for lane, entry, outcome in ended
    ]  # fmt: skip
    args, _ = scripts.settle(Standing("me", 0, "e", 7), told, claiming=True)
    return bytes(hiredis.pack_command(scripts.SETTLE.command((7, 0, 0), ["flowq:{stress}:clock"], args)))


@pytest.mark.parametrize("record", [None, b'{"status":"succeeded"}'], ids=["ok", "end"])
def test_a_success_of_a_limited_type_is_found_in_a_settle(record: bytes | None) -> None:
    """Whether its result is kept or not, and wherever in the settle it is."""
    good = Succeeded(record=record, ttl_ms=1000)
    assert (
        wire.done(settle(("free", "1-0", good), ("wide", "2-5", good), ("wide", "3-0", good))) == "wide:2-5"
    )


def test_what_would_not_run_for_a_while_is_not_found() -> None:
    """A job without a limit is over at once when it runs again; one that is handed back has not succeeded."""
    assert (
        wire.done(settle(("free", "1-0", Succeeded(record=None, ttl_ms=0)), ("wide", "2-5", Released())))
        == ""
    )


def test_a_script_is_known_by_the_name_by_which_it_is_called() -> None:
    """Its SHA1 is in each call."""
    assert wire.sha(scripts.SETTLE, (7, 0, 0)) in settle(("wide", "1-0", Succeeded(record=None, ttl_ms=0)))


def test_a_script_that_is_not_loaded_has_not_answered() -> None:
    """The call that follows does."""
    assert not wire.answer(b"-NOSCRIPT No matching script.\r\n")
    assert wire.answer(b"*1\r\n$2\r\nOK\r\n")


def test_who_has_got_more_bodies_since(tmp_path: Path) -> None:
    """Bodies that run now, less those that ran then; other types, and what came and went in between, count for nothing."""
    path = tmp_path / "bodies.log"
    path.write_text(
        "0.0 9 start half a line of before\n"
        "1.0 1 start long 1 1.0 long:1-0 5\n"
        "1.5 2 start long 2 2.0 long:2-0 6\n"
        "1.6 1 done long 1 1.0\n"
        "2.5 1 start long 3 1.1 long:3-0 7\n"
        "2.6 1 start wide 4 1.2 wide:4-0 8\n"
        "2.7 2 cut long 2 2.0\n"
        "2.8 3 start long 5 3.0 long:5-0 9\n"
        "2.9 3 done long 5 3.0\n"
    )
    assert {pid: more for pid, more in gained(path, "long", 2.0).items() if more} == {1: 1, 2: -1}


def test_the_next_start_of_a_job_is_waited_for(tmp_path: Path) -> None:
    """Starts of before, and of other jobs, are none."""
    path = tmp_path / "bodies.log"
    path.write_text("1.0 1 start wide 1 1.0 wide:1-0 5\n")

    async def play() -> None:
        follow = Follow(path)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(follow.wait_start, "wide:1-0"))
                for line in (
                    "2.0 1 start wide 2 1.1 wide:2-0 6\n",
                    "2.1 2 start wide 1 2.0 wi",
                    "de:1-0 7\n",
                ):
                    await trio.sleep(0.02)
                    assert len(nursery.child_tasks) == 1
                    with path.open("a") as file:
                        file.write(line)

    trio.run(play)
