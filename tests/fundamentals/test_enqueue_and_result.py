"""A task is a function. Enqueueing it stores a job; a worker runs it; the job's handle gives the result."""

from __future__ import annotations

import flowq


async def test_enqueue_and_result(app: flowq.App[None]) -> None:
    """``enqueue`` takes what the function takes, and ``result()`` gives what it returns."""

    @app.task
    async def resize(image: str, width: int = 200) -> str:
        return f"{image} at {width}"

    async with flowq.open_worker(app):
        job = await resize.enqueue("a.png", width=80)

        assert await job.result(timeout=10) == "a.png at 80"
        assert await job.status() == "succeeded"

    # called directly it is just the function: no job, no Redis
    assert await resize("b.png") == "b.png at 200"


async def test_a_job_can_be_found_again_by_its_id(app: flowq.App[None]) -> None:
    """One program enqueues and hands the id on; another one asks for the result by it."""

    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with app:  # a producer needs no worker: the job waits in Redis
        job_id = (await add.enqueue(1, 2)).id

    async with flowq.open_worker(app):
        assert await add.job(job_id).result(timeout=10) == 3
