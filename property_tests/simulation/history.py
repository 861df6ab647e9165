"""What was seen from outside: who submitted what, which bodies ran when and where, what became of each job, and every fault.

Nothing here is flowq's. Times are seconds of the simulation's clock, by which everything is ordered; what happens at one time is
ordered by its place in the list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs


@attrs.frozen
class Accepted:
    """The submit of ``token`` was answered: it is that job."""

    at: float
    token: str
    job: str
    due: float
    """Not to be started sooner."""


@attrs.frozen
class Refused:
    """The submit of ``token`` was answered: nothing was stored."""

    at: float
    token: str


@attrs.frozen
class Started:
    at: float
    body: int
    worker: str
    token: str
    job: str
    lane: str
    fence: int
    timeout: float


@attrs.frozen
class Ended:
    at: float
    body: int
    how: Literal["ok", "raised", "cancelled"]


@attrs.frozen
class Outcome:
    """What the place for jobs took as the end of a job."""

    at: float
    job: str
    kind: str
    """succeeded, dead or cancelled."""
    why: str
    """Of a dead one."""
    fence: int | None
    """Of the delivery whose end it is; None: nobody was running it."""


@attrs.frozen
class Vouched:
    """The server extended this worker's lease."""

    at: float
    worker: str


@attrs.frozen
class LimitSet:
    at: float
    lane: str
    limit: int | None


@attrs.frozen
class Crashed:
    at: float
    worker: str


@attrs.frozen
class Frozen:
    """No task of the worker runs; with ``but_keeper`` only the one that renews."""

    at: float
    worker: str
    seconds: float
    but_keeper: bool


@attrs.frozen
class Thawed:
    at: float
    worker: str


@attrs.frozen
class CutOff:
    """The worker could not reach the server for so long."""

    at: float
    worker: str
    seconds: float


@attrs.frozen
class CallFailed:
    """What the line did to one call."""

    at: float
    worker: str
    call: str
    number: int
    fault: str


@attrs.frozen
class ServerLost:
    """The server forgot who is alive; and, if ``since`` is given, everything since that moment."""

    at: float
    since: float | None


@attrs.frozen
class ClockStepped:
    at: float
    seconds: float


@attrs.frozen
class Died:
    """The worker ended by an error that nobody asked for."""

    at: float
    worker: str
    error: str


@attrs.frozen
class Quiet:
    """No fault from here on."""

    at: float


@attrs.frozen
class Finished:
    """The end of the simulation: what is still in the place for jobs, by lane, and who is still a member."""

    at: float
    left: dict[str, int]
    members: int
    stuck: str = ""
    """What was waited for in vain."""


Event = (
    Accepted
    | Refused
    | Started
    | Ended
    | Outcome
    | Vouched
    | LimitSet
    | Crashed
    | Frozen
    | Thawed
    | CutOff
    | CallFailed
    | ServerLost
    | ClockStepped
    | Died
    | Quiet
    | Finished
)


@attrs.define(eq=False)
class History:
    """Append-only. What a crashed worker still does while its tasks unwind reaches nobody, and is not kept."""

    now: Callable[[], float]
    events: list[Event] = attrs.Factory(list[Event])
    crashed: set[str] = attrs.Factory(set[str])
    _bodies: int = 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Crashed):
            self.crashed.add(event.worker)

    def start(self, worker: str, token: str, job: str, lane: str, fence: int, timeout: float) -> int:
        """A body begins. Returns its number."""
        self._bodies += 1
        if worker not in self.crashed:
            self.add(Started(self.now(), self._bodies, worker, token, job, lane, fence, timeout))
        return self._bodies

    def end(self, worker: str, body: int, how: Literal["ok", "raised", "cancelled"]) -> None:
        if worker not in self.crashed:
            self.add(Ended(self.now(), body, how))
