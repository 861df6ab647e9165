"""Offsets that end in any order: the map in a commit gives back what was put in, and no life of a partition loses a record."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from flowq.backends.kafka import offset_map
from flowq.backends.kafka.tracker import Tracker

lows = st.integers(0, 2**62)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """low, end and the unfinished offsets, of which low is one."""
    low = draw(lows)
    flags = draw(st.lists(st.booleans(), max_size=300))
    open_ = [low + at for at, flag in enumerate(flags) if flag or at == 0]
    return low, low + len(flags), open_


@given(ranges())
def test_a_map_gives_back_what_it_was_given(given_: tuple[int, int, list[int]]) -> None:
    """Or there is none, because nothing above has ended."""
    low, end, unfinished = given_
    text = offset_map.encode(low, end, unfinished)
    if len(unfinished) == end - low:
        assert text == ""
    else:
        assert offset_map.decode(low, text) == (end, unfinished)


@given(ranges(), st.integers(8, 60))
def test_a_map_that_does_not_fit_is_cut(given_: tuple[int, int, list[int]], most: int) -> None:
    """What it still says is true, and it says it from the lowest offset on."""
    low, end, unfinished = given_
    text = offset_map.encode(low, end, unfinished, most)
    assert len(text) <= most
    cut, still = offset_map.decode(low, text)
    assert low <= cut <= end
    assert still == [offset for offset in unfinished if offset < cut]


def test_the_whole_window_fits_in_any_order_of_ending() -> None:
    """Random bits are the worst that there is."""
    draw = random.Random(1)
    for share in (0.02, 0.5, 0.98):
        unfinished = [0, *(at for at in range(1, 16_384) if draw.random() < share)]
        text = offset_map.encode(0, 16_384, unfinished)
        assert offset_map.decode(0, text) == (16_384, unfinished)


@given(
    lows,
    st.one_of(
        st.text(max_size=80),
        st.sampled_from(["1r", "1b"]).flatmap(lambda k: st.text(max_size=60).map(k.__add__)),
    ),
)
@example(0, "1r====")
@example(0, "1beJwDAAAAAAE=")
def test_text_that_is_no_map_is_none(low: int, text: str) -> None:
    """Repeats, then; never an exception, and never an offset below the committed one."""
    end, unfinished = offset_map.decode(low, text)
    assert end >= low
    assert all(low <= offset < end for offset in unfinished)


def test_a_bomb_is_no_map() -> None:
    """A commit's metadata may be written by anybody who may commit."""
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    assert offset_map.decode(7, "1b" + bomb) == (7, [])
    assert offset_map.decode(7, "1r" + bomb) == (7, [])


@given(st.data())
def test_no_life_loses_a_record(data: st.DataObject) -> None:
    """Lives follow each other, each from the last commit: every record runs to its end, and one that had ended when the commit was
    written does not run again.
    """
    log = sorted(data.draw(st.sets(st.integers(0, 60), max_size=40), label="records; the gaps are holes"))
    ended: dict[int, int] = {}
    commit, known = (0, ""), set[int]()
    for life in range(data.draw(st.integers(1, 4), label="lives")):
        is_last = life == 3
        tracker = Tracker(*commit, window=data.draw(st.integers(1, 40), label="window"))
        running: list[int] = []
        told = set(known)
        for offset in [offset for offset in log if offset >= commit[0]]:
            while tracker.is_full and running:
                offset_ended = running.pop(data.draw(st.integers(0, len(running) - 1), label="who ends"))
                ended[offset_ended] = ended.get(offset_ended, 0) + 1
                told.add(offset_ended)
                tracker.finish(offset_ended)
            if tracker.read(offset):
                assert offset not in known, "it had ended when the commit was written"
                running.append(offset)
            else:
                assert offset in ended
            if data.draw(st.booleans(), label="commits") and (new := tracker.commit()):
                commit, known = new, set(told)
                tracker.committed(*new)
        while running and (is_last or data.draw(st.booleans(), label="another ends")):
            offset = running.pop(data.draw(st.integers(0, len(running) - 1), label="who ends"))
            ended[offset] = ended.get(offset, 0) + 1
            told.add(offset)
            tracker.finish(offset)
        if (new := tracker.commit()) and data.draw(st.booleans(), label="closes well"):
            commit, known = new, set(told)
        assert all(offset in ended for offset in log if offset < commit[0]), (
            "committed over a record that has not ended"
        )
    tracker = Tracker(*commit)
    for offset in [offset for offset in log if offset >= commit[0]]:
        if tracker.read(offset):
            ended[offset] = ended.get(offset, 0) + 1
            tracker.finish(offset)
    assert set(ended) == set(log)
    assert tracker.outstanding == 0
    assert tracker.low >= max(log, default=-1) + 1 or not log
