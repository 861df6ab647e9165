"""The place for jobs, with a witness at its door: it notes what was taken, whatever a worker believes of it.

Each client has a desk of its own: the desk knows whose calls these are, the server does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flowq._model import (
    CancelAnswer,
    Cancelled,
    Confirmed,
    Dead,
    Ended,
    Exchanged,
    Joined,
    Renewed,
    Settled,
    Status,
    Succeeded,
    Want,
)
from flowq.backends.memory import MemoryServer
from flowq.backends.protocol import Standing

from .history import History, Outcome, Vouched

CALLS = {name: name for name in ("submit", "mine", "leave", "promote", "cancels")} | {"listen": "wait_ring"}
"""Methods of the server, and the calls of a client that they do; the Desk's own methods are not among them."""


class WatchedServer(MemoryServer):
    """The place, and which members of it were seen to be dead with jobs in their hands."""

    def __init__(self, *, clock: Callable[[], int], seed: int) -> None:
        super().__init__(clock=clock, seed=seed, audited=True)
        self.expired: set[str] = set()


class Desk:
    """One worker's way into the server; what it does not mention goes through as it is."""

    def __init__(
        self,
        server: WatchedServer,
        history: History,
        counts: Counter[str],
        done: Callable[[str], None],
        worker: str,
    ) -> None:
        self._server = server
        self._history = history
        self._counts = counts
        self._done = done
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._server, name)
        call = CALLS.get(name)
        if call is None:
            return found

        def and_say(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            self._done(call)
            return answer

        return and_say

    def exchange(self, me: Standing, ended: Sequence[Ended], want: Want | None) -> Exchanged:
        letters = len(self._server.dead_letters)
        answer = self._server.exchange(me, ended, want)
        if answer.settled is not None:
            self._note(ended, answer.settled)
            letters += sum(isinstance(one.outcome, Dead) for one in self._taken(ended, answer.settled))
        if answer.claimed is not None and answer.claimed.dead:
            for letter in self._server.dead_letters[letters:]:
                self._add(letter.job_id, "dead", letter.kind, None)
        self._count(answer)
        self._see_expired()
        self._done("exchange")
        return answer

    def _count(self, answer: Exchanged) -> None:
        counts = self._counts
        counts["turns"] += 1
        for _, refusal in answer.settled.refused if answer.settled is not None else ():
            counts[refusal] += 1
        for delivery in answer.claimed.grants if answer.claimed is not None else ():
            counts["adoptions after a crash" if delivery.crashes else "grants"] += 1
        for part in (answer.settled, answer.claimed):
            if part is not None and part.status is not Status.OK:
                counts[part.status] += 1

    @staticmethod
    def _taken(ended: Sequence[Ended], settled: Settled) -> list[Ended]:
        refused = {delivery.fence for delivery, _ in settled.refused}
        return (
            [one for one in ended if one.delivery.fence not in refused] if settled.status is Status.OK else []
        )

    def _note(self, ended: Sequence[Ended], settled: Settled) -> None:
        for one in self._taken(ended, settled):
            match one.outcome:
                case Succeeded():
                    self._add(one.job_id, "succeeded", "", one.delivery.fence)
                case Dead(kind=kind):
                    self._add(one.job_id, "dead", kind, one.delivery.fence)
                case Cancelled():
                    self._add(one.job_id, "cancelled", "", one.delivery.fence)
                case _:
                    pass

    def _add(self, job: str, kind: str, why: str, fence: int | None) -> None:
        self._history.add(Outcome(self._history.now(), job, kind, why, fence))

    def _see_expired(self) -> None:
        for name, member in self._server._state.members.items():
            if member.expired and name not in self._server.expired:
                self._server.expired.add(name)
                self._counts["expiries"] += 1

    def _vouch(self, status: Status) -> None:
        if status is not Status.OK:
            self._counts[status] += 1
        if status is Status.OK:
            self._history.add(Vouched(self._history.now(), self._worker))

    def join(self, *args: Any, **kwargs: Any) -> Joined:
        joined = self._server.join(*args, **kwargs)
        self._vouch(Status.OK)
        self._done("join")
        return joined

    def renew(self, *args: Any, **kwargs: Any) -> Renewed:
        answer = self._server.renew(*args, **kwargs)
        self._vouch(answer.status)
        self._done("renew")
        return answer

    def confirm(self, *args: Any, **kwargs: Any) -> Confirmed:
        answer = self._server.confirm(*args, **kwargs)
        self._vouch(answer.status)
        self._done("confirm")
        return answer

    def cancel(self, job_id: str, *args: Any, **kwargs: Any) -> CancelAnswer:
        answer = self._server.cancel(job_id, *args, **kwargs)
        if answer is CancelAnswer.REMOVED:
            self._add(job_id, "cancelled", "", None)
        return answer


def told(server: WatchedServer, job: str) -> tuple[str, str] | None:
    """What a waiter would be told of a job: its kind of end, and why; None: nothing is kept."""
    record = server.record(job)
    return None if record is None else (record.status, record.kind)


def outstanding(server: WatchedServer) -> dict[str, int]:
    """Jobs that have not ended, by lane. Does not touch the server's clock, as a call of a client would."""
    state = server._state
    left = {name: len(lane.unread) + len(lane.pending) for name, lane in sorted(state.lanes.items())}
    for job in state.delayed.values():
        left[job.lane] = left.get(job.lane, 0) + 1
    return {name: count for name, count in left.items() if count}
