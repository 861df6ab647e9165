"""The list of the designs, in the order in which they are shown."""

from __future__ import annotations

import attrs

from bench.designs.design import Design
from bench.designs.dispatched import Dispatched
from bench.designs.flowq_itself import FlowqItself
from bench.designs.head_lock import HeadLock
from bench.designs.leased_lists import LeasedLists
from bench.designs.list_per_type import ListPerType
from bench.designs.one_stream import OneStream
from bench.designs.pop_first import PopFirst
from bench.designs.sharded import Sharded
from bench.designs.shards_per_type import ShardsPerType


@attrs.frozen
class Entry:
    """One row of the comparison."""

    sign: str
    """As the design note numbers it."""
    title: str
    make: type[Design]

    @property
    def label(self) -> str:
        return f"{self.sign} {self.title}" if self.sign else self.title

    @property
    def has_bare_form(self) -> bool:
        """Its recovery was added to a structure that has none: what that loses by itself is measured too."""
        return issubclass(self.make, LeasedLists | Dispatched)


DESIGNS = {
    "head-lock": Entry("0", "lock at the head", HeadLock),
    "pop-first": Entry("0'", "pop before the token", PopFirst),
    "sharded": Entry("1", "sharded lists", Sharded),
    "dispatched": Entry("2", "queue per worker", Dispatched),
    "one-stream": Entry("3", "one stream", OneStream),
    "list-per-type": Entry("4", "list per type", ListPerType),
    "shards-per-type": Entry("5", "shards per type", ShardsPerType),
    "flowq": Entry("", "flowq", FlowqItself),
}
"""By the name that the command line takes."""
