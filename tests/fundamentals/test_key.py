"""``options(key=…)``: while a job with this key has not ended, enqueueing again gives that same job."""

from __future__ import annotations

import flowq


async def test_key(app: flowq.App[None]) -> None:
    """A web view that is called twice for one order bills it once."""
    billed = []

    @app.task
    async def bill(order: int) -> None:
        billed.append(order)

    async with app:
        first = await bill.options(key="order-7").enqueue(7)
        second = await bill.options(key="order-7").enqueue(7)

        assert (first.created, second.created) == (True, False)
        assert first.id == second.id
        async with flowq.open_worker(app):
            await first.result(timeout=10)

            # it has ended, so the key is free
            third = await bill.options(key="order-7").enqueue(7)
            await third.result(timeout=10)

    assert third.created
    assert billed == [7, 7]
