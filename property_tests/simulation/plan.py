"""What happens in a simulation, as data: what Hypothesis draws, what a failure prints, and what a replay reads."""

from __future__ import annotations

from typing import Literal

import msgspec

from flowq.testing.faults import Delay, DropReply, DropRequest, Fault, Late, Outage
from flowq.testing.faults import Freeze as Standstill

LaneName = Literal["pair", "one", "sync", "free", "brief"]
How = Literal["ok", "fail", "reject", "slow", "busy", "child", "stubborn", "deaf"]
"""How a body behaves: fails its first attempt; rejects; needs 0.3 s to leave; waits in many small steps; submits a child; swallows
the first cancellation; needs 6 s to leave."""


class Submit(msgspec.Struct, tag=True, frozen=True):
    after: float
    lane: LaneName
    jobs: int
    seconds: float
    how: How = "ok"
    delay: float = 0.0


class Start(msgspec.Struct, tag=True, frozen=True):
    """A new worker, if there is room for one."""

    after: float
    slot: int


class Drain(msgspec.Struct, tag=True, frozen=True):
    after: float
    slot: int
    grace: float


class Crash(msgspec.Struct, tag=True, frozen=True):
    """After ``steps`` further steps of the worker's tasks; 0: now."""

    after: float
    slot: int
    steps: int = 0


class Freeze(msgspec.Struct, tag=True, frozen=True):
    """SIGSTOP, SIGCONT: no task of the worker runs for so long."""

    after: float
    slot: int
    seconds: float


class Stall(msgspec.Struct, tag=True, frozen=True):
    """A body blocks the event loop for so long: only the keeper runs."""

    after: float
    slot: int
    seconds: float


class Cut(msgspec.Struct, tag=True, frozen=True):
    """The worker's connections break and do not come back for so long. Slot -1: everybody's."""

    after: float
    slot: int
    seconds: float


class Hang(msgspec.Struct, tag=True, frozen=True):
    """Nothing passes on the worker's connections for so long, and nothing breaks."""

    after: float
    slot: int
    seconds: float


class Server(msgspec.Struct, tag=True, frozen=True):
    """It restarts with all its data; takes a backup; fails over to that backup; loses everything; its clock steps by ``hours``."""

    after: float
    what: Literal["forget", "backup", "restore", "flush", "clock"]
    hours: float = 0.0


class Limit(msgspec.Struct, tag=True, frozen=True):
    """The limit in force; 0 pauses, None takes it all back."""

    after: float
    lane: Literal["pair", "one"]
    limit: int | None


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """The job that was submitted as number ``job``, modulo their number."""

    after: float
    job: int


Op = Submit | Start | Drain | Crash | Freeze | Stall | Cut | Hang | Server | Limit | Cancel


class CallFault(msgspec.Struct, frozen=True):
    """What becomes of the ``number``-th call of a name on the connections of the first worker of a slot."""

    slot: int
    call: str
    number: int
    kind: Literal[
        "drop_request", "drop_reply", "late", "delay", "outage", "standstill",
        "crash_before", "crash_after", "cut_before", "cut_after",
    ]  # fmt: skip
    """The last four strike the whole worker, just before or just after the server has done what was asked."""
    seconds: float = 0.0

    @property
    def blow(self) -> str:
        """What strikes the worker: crash, cut or nothing."""
        return self.kind.partition("_")[0] if self.kind.startswith(("crash", "cut")) else ""

    def fault(self) -> Fault:
        """As the line plays it."""
        match self.kind:
            case "drop_request" | "crash_before" | "cut_before":
                return DropRequest()
            case "drop_reply" | "crash_after" | "cut_after":
                return DropReply()
            case "late":
                return Late(1 + int(self.seconds))
            case "delay":
                return Delay(self.seconds / 2, self.seconds / 2)
            case "outage":
                return Outage(self.seconds)
            case "standstill":
                return Standstill(self.seconds)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation, whole: the same plan is the same run, step by step."""

    seed: int
    """Of trio's schedule, of backoff and of names."""
    workers: int = 2
    concurrency: int = 3
    ttl: float = 10.0
    rest: float = 0.0
    """Seconds from the last of ``ops`` until all faults end."""
    ops: list[Op] = []
    faults: list[CallFault] = []
    kills: dict[str, int] = {}
    """Worker → the step of its tasks, counted from its start, after which it is killed."""

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str | bytes) -> Plan:
        return msgspec.json.decode(text, type=cls)

    @property
    def command(self) -> str:
        """What replays it."""
        return f"python -m property_tests.simulation '{self.encode()}'"
