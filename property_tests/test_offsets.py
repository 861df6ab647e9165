"""The bookkeeping of a Kafka partition: against a plain model, for every order of ends, holes and restarts."""

from __future__ import annotations

import random

from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowq.backends.kafka.offset_map import LIMIT, decode, encode
from flowq.backends.kafka.tracker import WINDOW, Arrival, Tracker

topics = st.sampled_from(["", "q1Zx_-90AAAAAAAAAAAAAA"])
steps = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=200)


def runs_of(low: int, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    runs, last = [], low
    for distance, length in pairs:
        runs.append((last + distance, last + distance + length))
        last = runs[-1][1]
    return runs


@given(st.integers(0, 2**62), steps, topics)
def test_a_map_comes_back_whole(low: int, pairs: list[tuple[int, int]], topic: str) -> None:
    runs = runs_of(low, pairs)

    assert list(decode(low, encode(low, runs, topic), topic)) == runs


@given(st.integers(0, 2**40), steps, topics, st.integers(40, 400))
def test_what_does_not_fit_is_cut_to_the_lowest_runs(
    low: int, pairs: list[tuple[int, int]], topic: str, limit: int
) -> None:
    runs = runs_of(low, pairs)

    text = encode(low, runs, topic, limit)

    kept = list(decode(low, text, topic))
    assert len(text.encode()) <= limit
    assert kept == runs[: len(kept)]
    event("whole" if kept == runs else "cut")


@given(
    st.integers(0, 2**40),
    st.one_of(st.none(), st.text(max_size=60), st.text(max_size=60).map("fq1::".__add__)),
)
def test_a_foreign_text_is_no_map_or_a_sane_one(low: int, text: str | None) -> None:
    """Whatever stands there, it raises nothing, and what it says lies above the low-water mark in order."""
    last = low
    for start, stop in decode(low, text):
        assert last < start < stop
        last = stop


@given(st.integers(0, 2**40), steps.filter(bool), st.data())
def test_a_damaged_map_is_never_misread(low: int, pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    """One character changed: the checksum of the packing tells."""
    text = encode(low, runs_of(low, pairs))
    place = data.draw(st.integers(5, len(text) - 1))
    other = data.draw(st.sampled_from("0123456789abcXYZ~").filter(lambda sign: sign != text[place]))

    assert decode(low, text[:place] + other + text[place + 1 :]) in ((), runs_of(low, pairs))


def test_a_map_of_another_topic_is_none() -> None:
    """A topic that was deleted and made anew begins at 0 again: its first records are not the finished ones of the old."""
    text = encode(5, [(7, 9)], "old")

    assert (decode(5, text, "old"), decode(5, text, "new"), decode(5, text, "")) == ([(7, 9)], (), [(7, 9)])


def test_the_worst_of_a_full_window_fits() -> None:
    """Half of a window finished, by chance: nothing packs worse, and it fits whole."""
    for seed in range(5):
        chosen = random.Random(seed).sample(range(1, WINDOW), WINDOW // 2)
        tracker = Tracker(1_000_000)
        for offset in range(WINDOW):
            tracker.arrive(1_000_000 + offset)
        for offset in chosen:
            tracker.finish(1_000_000 + offset)
        runs = list(tracker.finished_above())

        text = encode(tracker.low, runs, "q1Zx_-90AAAAAAAAAAAAAA")

        assert len(text) <= LIMIT
        assert list(decode(tracker.low, text)) == runs


class Partition(RuleBasedStateMachine):
    """A log with holes, read by one owner after another; the model is the set of offsets that exist and that of the finished."""

    @initialize(start=st.integers(0, 1000), window=st.sampled_from([5, 50, WINDOW]))
    def begin(self, start: int, window: int) -> None:
        self.window = window
        self.tracker = Tracker(start, window=window)
        self.exists: set[int] = set()
        self.end = self.position = start
        self.finished: set[int] = set()
        self.out: set[int] = set()
        self.kept: tuple[int, str, frozenset[int]] = (start, "", frozenset())

    @rule(gap=st.sampled_from([0, 0, 0, 1, 7]), number=st.integers(1, 20))
    def produce(self, gap: int, number: int) -> None:
        self.end += gap
        self.exists |= set(range(self.end, self.end + number))
        self.end += number

    @rule(most=st.integers(1, 30))
    def fetch(self, most: int) -> None:
        for offset in sorted(offset for offset in self.exists if offset >= self.position)[:most]:
            if self.tracker.is_full:
                return
            arrival = self.tracker.arrive(offset)
            assert arrival is (Arrival.FINISHED if offset in self.kept[2] else Arrival.FRESH)
            if arrival is Arrival.FRESH:
                self.out.add(offset)
            self.position = offset + 1

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)))
        assert self.tracker.finish(offset)
        assert not self.tracker.finish(offset)
        self.out.remove(offset)
        self.finished.add(offset)
        assert self.tracker.is_dirty

    @rule()
    def commit(self) -> None:
        done = frozenset(self.finished) | self.kept[2]
        self.kept = (self.tracker.low, encode(self.tracker.low, self.tracker.finished_above()), done)
        self.tracker.committed(self.tracker.changes)
        assert not self.tracker.is_dirty

    @rule()
    def take_over(self) -> None:
        """The owner dies; the next one begins with what was committed: all of that is known, and nothing that is not finished."""
        low, text, done = self.kept
        self.tracker = Tracker(low, decode(low, text), self.window)
        self.position = low
        self.finished = set(done)
        self.out.clear()

    @invariant()
    def nothing_unfinished_is_below_the_mark(self) -> None:
        tracker = self.tracker
        assert {offset for offset in self.exists if offset < tracker.low} <= self.finished | self.kept[2]
        assert tracker.outstanding == len(self.out)
        assert tracker.low == min(self.out, default=tracker.expected)

    @invariant()
    def what_is_said_to_be_finished_is(self) -> None:
        last = self.tracker.low
        for start, stop in self.tracker.finished_above():
            assert last < start < stop
            assert self.exists & set(range(start, stop)) <= self.finished | self.kept[2]
            last = stop
        told = {offset for run in self.tracker.finished_above() for offset in range(*run)}
        assert {offset for offset in self.finished if offset > self.tracker.low} <= told


TestPartition = Partition.TestCase


def test_a_rewound_log_is_told() -> None:
    """A record below where the partition was read already: another log."""
    tracker = Tracker(10)
    assert tracker.arrive(10) is Arrival.FRESH

    assert [tracker.arrive(offset) for offset in (10, 3)] == [Arrival.REWOUND, Arrival.REWOUND]


def test_a_full_window_opens_when_its_oldest_ends() -> None:
    tracker = Tracker(0, window=3)
    for offset in range(3):
        tracker.arrive(offset)
    tracker.finish(1)
    tracker.finish(2)
    assert tracker.is_full

    tracker.finish(0)

    assert (tracker.is_full, tracker.low) == (False, 3)
