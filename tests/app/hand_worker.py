"""A worker by hand: what the tests of the surface need of one, over the public contract of a backend, without the runtime."""

from __future__ import annotations

import traceback
from typing import Any

import anyio

import flowq
from flowq._codec import Call, encode_record, job_id
from flowq._model import Cancelled, Dead, Delivery, Ended, LanePolicy, Outcome, Record, Succeeded, Want
from flowq.backends.protocol import MemberFacts, Standing

FACTS = MemberFacts(host="here", pid=1, version="0", concurrency=100, backend="test")


class HandWorker:
    """Joins an app that is open, claims what is ready, and settles it with what the body did."""

    def __init__(self, app: flowq.App[Any]) -> None:
        self.app = app
        self.calls: list[Call] = []

    async def join(self) -> None:
        fleet = self.app.session().backend.fleet
        lanes = {
            lane: LanePolicy(task.policy.limit, task.policy.max_crashes, task.is_sync, 1000)
            for lane, task in self.app.tasks.items()
        }
        joined = await fleet.join(FACTS, lanes, ttl=10.0)
        self.me = Standing(joined.member, 0, joined.epoch, 0)

    async def claim(self) -> list[Delivery]:
        stream = self.app.session().backend.stream
        claimed = (await stream.exchange(self.me, [], Want(room=100, threads=100, extra={}))).claimed
        assert claimed is not None
        return claimed.grants

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        call = self.app.tasks[delivery.lane].codec.decode(delivery.raw)
        ended = Ended(
            delivery=delivery,
            outcome=outcome,
            job_id=job_id(delivery.lane, delivery.entry, call),
            key=f"{delivery.lane}:{call.key}" if call.key else "",
            moved=bool(call.id),
        )
        await self.app.session().backend.stream.exchange(self.me, [ended], None)

    async def work(self) -> int:
        """Run everything that is ready, once. Returns how many."""
        deliveries = await self.claim()
        for delivery in deliveries:
            await self.settle(delivery, await self._run(delivery))
        return len(deliveries)

    async def leave(self) -> None:
        await self.app.session().backend.fleet.leave(self.me)

    async def _run(self, delivery: Delivery) -> Outcome:
        task = self.app.tasks[delivery.lane]
        call = task.codec.decode(delivery.raw)
        self.calls.append(call)
        try:
            value = task.fn(*call.args, **call.kwargs)
            value = value if task.is_sync else await value
            return Succeeded(task.codec.encode_result(value) if task.policy.results else None, 60_000)
        except Exception as error:  # noqa: BLE001 - whatever a body raises is its job's outcome
            text = "".join(traceback.format_exception(error))
            record = Record(
                "dead", kind="error", type=type(error).__name__, message=str(error), traceback=text
            )
            return Dead("error", str(error), encode_record(record), 60_000, b"{}")


async def end_cancelled(worker: HandWorker, delivery: Delivery, reason: str) -> None:
    """Settle a running job as its worker does once its body has left."""
    await anyio.lowlevel.checkpoint()
    await worker.settle(delivery, Cancelled(encode_record(Record("cancelled", reason=reason)), 60_000))
